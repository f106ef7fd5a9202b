"""A real service whose callers have API keys: a key is replaced while it serves, and no key is written anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.access import bearer, document, entry, key_of
from tests.support.redis_server import RedisServer
from tests.support.service_process import PlainService, ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

BODY = {"user_id": "u1", "candidates": ["i1", "i2", "i3"]}
BEHAVIOUR = {"user_id": "u1", "item_id": "i1", "ts": 1_700_000_000_000}


class Keyed(PlainService):
    """A service with an access file."""

    def __init__(self, folder: Path, redis_url: str, **settings: str) -> None:
        self.access = folder / "access.json"
        self.put(entry("feed", "rank", keys=("old",)), entry("operator", "admin", "write"))
        super().__init__(folder, redis_url, ACCESS__FILE=str(self.access), ACCESS__RELOAD_MS="50", **settings)
        self._client.headers.update(bearer("operator"))

    def put(self, *entries: dict[str, object]) -> None:
        """Replace the file in one step."""
        new = self.access.with_suffix(".new")
        new.write_bytes(document(*entries))
        new.rename(self.access)


@pytest.fixture
def service(own_redis: RedisServer, tmp_path: Path) -> Iterator[Keyed]:
    made = Keyed(tmp_path, own_redis.url)
    yield made.start()
    made.close()


def accepted(service: ServiceProcess) -> float:
    return service.metric("ranker_access_reload_total", result="accepted")


def test_a_key_is_replaced_while_the_service_serves_and_no_key_is_logged(service: Keyed) -> None:
    def statuses(client: httpx.Client) -> list[int]:
        return [client.post("/rank", json=BODY, headers=bearer(key)).status_code for key in ("old", "new", "none")]

    def put(count: int, *keys: str) -> None:
        service.put(entry("feed", "rank", keys=keys), entry("operator", "admin", "write"))
        service.until(lambda: accepted(service) == count, "read again")

    with httpx.Client(base_url=service.url) as client:  # one connection: its heads are known
        assert statuses(client) == [200, 401, 401]
        put(2, "old", "new")
        assert statuses(client) == statuses(client) == [200, 200, 401]
        put(3, "new")
        assert statuses(client) == [401, 200, 401]
        service.access.write_text("callers: [")
        service.until(lambda: service.metric("ranker_access_reload_total", result="invalid") > 0, "found invalid")
        assert statuses(client) == [401, 200, 401]
        assert client.post("/behaviours", json={"behaviours": [BEHAVIOUR]}, headers=bearer("new")).status_code == 403
        assert client.get("/metrics").status_code == 401
        assert client.get("/health/ready").status_code == 200
    assert service.metric("ranker_caller_requests_total", caller="feed", outcome="answered") == 7
    service.will_log("access_file_refused")
    service.will_log('"caller":"feed"', count=8)
    log = service.log()
    assert "no API keys" not in log
    assert [key for key in ("old", "new", "none", "operator") if key_of(key)[:20] in log] == []


@pytest.mark.slow
def test_a_service_without_keys_says_so_at_its_start(own_redis: RedisServer, tmp_path: Path) -> None:
    service = PlainService(tmp_path, own_redis.url, PAGE__ENABLED="true")
    service.start()
    service.will_log("RANKER_ACCESS__FILE: not set, so no API keys")
    service.will_log("RANKER_PAGE__ENABLED")
    service.close()


@pytest.mark.slow
def test_a_service_does_not_start_with_a_bad_access_file(own_redis: RedisServer, tmp_path: Path) -> None:
    service = Keyed(tmp_path, own_redis.url)
    service.access.write_text("callers: []")
    status, said = service.refusal()
    assert status == 1
    assert "RANKER_ACCESS__FILE" in said
    assert "callers" in said


@pytest.mark.slow
def test_each_worker_has_its_share_of_a_quota(own_redis: RedisServer, tmp_path: Path) -> None:
    service = Keyed(tmp_path, own_redis.url, HTTP__WORKERS="2")
    service.put(entry("feed", "rank", requests_per_second=10), entry("operator", "admin"))
    service.start()
    answer = httpx.post(f"{service.url}/rank", json=BODY, headers=bearer("feed"))
    assert answer.headers["ratelimit-policy"] == '"requests";q=5;w=1'
    service.close()
