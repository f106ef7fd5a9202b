"""The slowest rankings of a real service with a slow Redis: what operators see, and how it is run again."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.replay.__main__ import main as replay
from tests.support.redis_server import RedisServer, free_port
from tests.support.service_process import PlainService, ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

FROZEN_SECONDS = 0.4
ITEMS = [f"i{number}" for number in range(1, 16)]
USER = "canary-user"


@pytest.fixture
def service(own_redis: RedisServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service with two ports, not started."""
    service = PlainService(tmp_path, own_redis.url, ADMIN__PORT=str(free_port()))
    yield service
    service.close()


def rank(service: ServiceProcess, request_id: str, **fields: object) -> None:
    body = {"user_id": USER, "candidates": ITEMS, **fields}
    headers = {"x-request-id": request_id}
    assert httpx.post(f"{service.url}/rank", json=body, headers=headers, verify=False, timeout=30).status_code == 200


def rank_frozen(redis: RedisServer, service: ServiceProcess, request_id: str, **fields: object) -> None:
    """Rank while Redis answers nothing for a while."""
    redis.freeze()
    thaw = threading.Timer(FROZEN_SECONDS, redis.thaw)
    thaw.start()
    rank(service, request_id, **fields)
    thaw.join()


def slowest(service: ServiceProcess) -> list[dict[str, Any]]:
    answer = httpx.get(f"{service.admin_url}/debug/slow", verify=False)
    assert answer.status_code == 200
    rankings: list[dict[str, Any]] = answer.json()["rankings"]
    return rankings


def test_a_ranking_that_waited_for_redis_is_the_slowest_and_can_be_run_again(
    service: ServiceProcess, own_redis: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.start()
    behaviours = [{"user_id": USER, "item_id": f"i{n}", "ts": 1_700_000_000_000 + n} for n in range(1, 6)]
    httpx.post(f"{service.url}/behaviours", json={"behaviours": behaviours}, verify=False)
    rank(service, "quick")
    rank_frozen(own_redis, service, "the-slow-one", context={"device": "canary-device"})
    rank_frozen(own_redis, service, "the-long-way", explain=True, attributes={"a": "canary-attribute"})
    found = {one["request_id"]: one for one in slowest(service)}
    for name in ("the-slow-one", "the-long-way"):
        one = found[name]
        assert one["stages_ms"]["store"] >= 0.9 * FROZEN_SECONDS * 1000
        assert one["total_ms"] >= one["stages_ms"]["store"]
        assert one["stages_ms"].keys() >= {"read", "store", "queue", "encode", "score", "order", "write", "other"}
        assert (one["bundle"], one["status"], one["candidates"], one["history"]) == ("mgnm@1", 200, 15, 5)
        assert one["arm"].startswith("pyramid-vs-mgnm:")
        assert len(one["inputs"]["candidates"]) == 15
    assert list(found)[-1] == "quick"
    assert "canary" not in json.dumps(found)
    assert not re.search(r'"i\d+"|170000000000\d', json.dumps(found))
    assert httpx.get(f"{service.url}/debug/slow", verify=False).status_code == 404
    assert replay([f"{service.admin_url}/debug/slow", "--bundles", str(service.bundles), "--runs", "3"]) == 0
    said = capsys.readouterr().out
    stages = re.findall(r"^  (\w+) +[\d.]+ +(-|[\d.]+)$", said, re.MULTILINE)
    assert {stage for stage, again in stages if again != "-"} == {"encode", "score", "order"}
    check_refusals(service, tmp_path, capsys)


def check_refusals(service: ServiceProcess, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run rankings again that are not of these bundles."""
    rankings = slowest(service)[:1]
    file = folder / "slow.json"
    for change, said in (
        ({"digest": "0" * 64}, "is another bundle"),
        ({"bundle": "../mgnm@1"}, "is not the name of a bundle"),
        ({"inputs": rankings[0]["inputs"] | {"candidates": [10**6]}}, "its inputs are not those of this bundle"),
    ):
        file.write_text(json.dumps({"rankings": [rankings[0] | change]}))
        assert replay([str(file), "--bundles", str(service.bundles)]) == 1
        assert said in capsys.readouterr().out


@pytest.mark.slow
def test_each_worker_shows_the_slowest_of_all(service: ServiceProcess, own_redis: RedisServer) -> None:
    service.with_settings(HTTP__WORKERS="2").start()
    own_redis.freeze()
    names = [f"slow-{number}" for number in range(8)]
    callers = [threading.Thread(target=rank, args=(service, name)) for name in names]
    for caller in callers:
        caller.start()
    time.sleep(FROZEN_SECONDS)
    own_redis.thaw()
    for caller in callers:
        caller.join()
    for _ in range(10):  # whichever worker answers
        assert {one["request_id"] for one in slowest(service)} >= set(names)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"SLOW__KEEP": "0", "ADMIN__PORT": str(free_port())}, {}])
def test_nothing_is_shown_where_nothing_is_kept_or_any_caller_could_read_it(
    own_redis: RedisServer, tmp_path: Path, settings: dict[str, str]
) -> None:
    service = PlainService(tmp_path, own_redis.url, **settings).start()
    rank(service, "r1")
    assert httpx.get(f"{service.admin_url}/debug/slow", verify=False).status_code == 404
    service.close()
