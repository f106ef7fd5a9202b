"""A caller's view of faults in Redis, the queue, the process or the files."""

from __future__ import annotations

import signal
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from contract.bundle.manifest import SCORE
from tests.support.callers import Caller
from tests.support.redis_server import RedisServer
from tests.support.redis_topology import watched
from tests.support.service_process import PlainService, ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

BODY = {"user_id": "u1", "candidates": ["i1", "i2", "i3"]}


@pytest.fixture
def processes() -> Iterator[list[ServiceProcess]]:
    """Services to be killed at the end in any case."""
    started: list[ServiceProcess] = []
    yield started
    for process in started:
        process.close()


def test_without_redis_rankings_are_degraded_and_recover_with_it(
    own_redis: RedisServer, tmp_path: Path, processes: list[ServiceProcess]
) -> None:
    service = PlainService(tmp_path, own_redis.url)
    processes.append(service)
    service.start()
    with httpx.Client(base_url=service.url) as client:
        assert client.post("/rank", json=BODY).json()["degraded"] == []
        own_redis.kill()
        for _ in range(10):
            answer = client.post("/rank", json=BODY)
            assert (answer.status_code, answer.json()["degraded"]) == (200, ["store_unavailable"])
            assert answer.headers["x-ab-bucket"].endswith("r=split")
        assert client.get("/health/ready").status_code == 200
        body = {"behaviours": [{"user_id": "u1", "item_id": "i1", "ts": 1_700_000_000_000}]}
        refused = client.post("/behaviours", json=body)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert [service.metric("ranker_store_up", kind=kind) for kind in ("reads", "writes")] == [0, 0]
        assert service.metric("ranker_degraded_total", reason="store_unavailable") == 10
        own_redis.start()
        service.until(lambda: client.post("/rank", json=BODY).json()["degraded"] == [], "whole again")
        service.until(lambda: client.post("/behaviours", json=body).status_code == 200, "taking appends")


@pytest.mark.slow
def test_appends_behind_sentinel_are_stored_and_counted_when_no_replica_has_them(
    tmp_path: Path, processes: list[ServiceProcess]
) -> None:
    with watched(sentinels=1) as parts:
        service = PlainService(tmp_path, parts.url)
        processes.append(service)
        service.start()
        bodies = [
            {"behaviours": [{"user_id": "u1", "item_id": "i1", "ts": 1_700_000_000_000 + place}]} for place in range(3)
        ]

        def is_confirmed() -> bool:
            """Append; on a busy machine a replica's first answers may come too late."""
            before = service.metric("ranker_store_unconfirmed_total")
            answer = httpx.post(f"{service.url}/behaviours", json=bodies[0])
            return answer.status_code == 200 and service.metric("ranker_store_unconfirmed_total") == before

        service.until(parts.is_ready, "replicated")
        service.until(is_confirmed, "confirmed")
        before = service.metric("ranker_store_unconfirmed_total")
        parts.servers[1].kill()
        service.until(lambda: not parts.is_replicated(), "without a replica")
        # Not believed for some seconds: a failover would look the same.
        assert httpx.post(f"{service.url}/behaviours", json=bodies[1]).status_code == 503
        service.until(lambda: httpx.post(f"{service.url}/behaviours", json=bodies[2]).status_code == 200, "believed")
        assert service.metric("ranker_store_unconfirmed_total") > before
        assert service.metric("ranker_store_errors_total", kind="unconfirmed") >= 1


def test_the_service_starts_without_redis(tmp_path: Path, processes: list[ServiceProcess]) -> None:
    service = PlainService(tmp_path, f"unix://{tmp_path}/nobody.sock")
    processes.append(service)
    service.start()
    answer = httpx.post(f"{service.url}/rank", json=BODY)
    assert (answer.status_code, answer.json()["degraded"]) == (200, ["store_unavailable"])


@pytest.fixture
def slow(own_redis: RedisServer, tmp_path: Path, processes: list[ServiceProcess]) -> ServiceProcess:
    """A service whose rankings take as long as its Redis is frozen, one at a time."""
    settings = {"REDIS__READ_TIMEOUT_MS": "20000", "LIMITS__MAX_INFLIGHT": "1"}
    settings |= {"LIMITS__DEADLINE_MS": "30000", "LIMITS__MAX_DEADLINE_MS": "30000"}
    service = PlainService(tmp_path, own_redis.url, **settings)
    processes.append(service)
    return service.start()


def test_a_full_service_refuses_at_once_and_answers_what_it_has_taken(
    slow: ServiceProcess, own_redis: RedisServer
) -> None:
    own_redis.freeze()
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(httpx.post, f"{slow.url}/rank", json=BODY, timeout=30)
        slow.until(lambda: slow.metric("ranker_inflight_requests") >= 2, "one taken")  # the scrape is the other
        refused = httpx.post(f"{slow.url}/rank", json=BODY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["x-ab-bucket"] == "rank=none;r=error"  # refused before anything was decided
        assert httpx.get(f"{slow.url}/health/ready").status_code == 200
        own_redis.thaw()
        assert taken.result().status_code == 200
    assert slow.metric("ranker_rejected_total", reason="overloaded") == 1


def test_a_request_under_way_at_sigterm_is_answered_and_the_exit_is_clean(
    slow: ServiceProcess, own_redis: RedisServer
) -> None:
    own_redis.freeze()
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(httpx.post, f"{slow.url}/rank", json=BODY, timeout=30)
        slow.until(lambda: slow.metric("ranker_inflight_requests") >= 2, "one taken")
        slow.send(signal.SIGTERM)
        slow.until(lambda: "draining" in slow.log(), "draining")
        own_redis.thaw()
        assert taken.result().status_code == 200
        assert taken.result().headers["connection"] == "close"
    assert slow.wait() == 0


def test_a_second_signal_ends_sooner_and_what_is_under_way_is_told_so(
    slow: ServiceProcess, own_redis: RedisServer
) -> None:
    own_redis.freeze()
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(httpx.post, f"{slow.url}/rank", json=BODY, timeout=30)
        slow.until(lambda: slow.metric("ranker_inflight_requests") >= 2, "one taken")
        slow.send(signal.SIGTERM)
        slow.until(lambda: "draining" in slow.log(), "draining")
        slow.send(signal.SIGTERM)
        assert (taken.result().status_code, taken.result().json()["error"]["code"]) == (503, "not_ready")
    own_redis.thaw()  # the read itself is never cancelled, and this test lets it take 20 s
    assert slow.wait() == 0


@pytest.mark.parametrize("delay_ms", [pytest.param("0", marks=pytest.mark.slow), "300"])
def test_sigterm_in_mid_traffic_loses_nothing(
    own_redis: RedisServer, tmp_path: Path, processes: list[ServiceProcess], delay_ms: str
) -> None:
    service = PlainService(tmp_path, own_redis.url, HTTP__DRAIN_DELAY_MS=delay_ms)
    processes.append(service)
    service.start()
    callers = [Caller(service.port, keeps=keeps) for keeps in (True, True, False, False)]
    for caller in callers:
        caller.start()
    service.until(lambda: service.metric("ranker_requests_total", route="/rank") > 200, "busy")
    service.send(signal.SIGTERM)
    for caller in callers:
        caller.join(30)
    assert service.wait() == 0
    seen = sum((caller.seen for caller in callers), Counter[str]())
    assert set(seen) == {"200"}
    assert '"abandoned"' not in service.log()


def test_while_draining_it_is_not_ready_but_still_takes_connections(
    own_redis: RedisServer, tmp_path: Path, processes: list[ServiceProcess]
) -> None:
    service = PlainService(tmp_path, own_redis.url, HTTP__DRAIN_DELAY_MS="60000")
    processes.append(service)
    service.start()
    service.send(signal.SIGTERM)
    service.until(lambda: httpx.get(f"{service.url}/health/ready").status_code == 503, "draining")
    answer = httpx.post(f"{service.url}/rank", json=BODY)
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert httpx.get(f"{service.url}/health/live").status_code == 200
    service.send(signal.SIGTERM)
    assert service.wait() == 0


# --- what must not start


def refused(service: ServiceProcess) -> tuple[int, str]:
    status, said = service.refusal()
    assert "Traceback" not in said
    return status, said


def test_an_unknown_setting_refuses_to_start_and_is_named(tmp_path: Path) -> None:
    status, said = refused(ServiceProcess(tmp_path, "redis://nowhere", HTTP__PROT="1"))
    assert status == 2
    assert said == "service: RANKER_HTTP__PROT: unknown setting; did you mean RANKER_HTTP__PORT?\n"


def test_a_redis_url_that_is_none_refuses_to_start_without_showing_it(tmp_path: Path) -> None:
    status, said = refused(ServiceProcess(tmp_path, "http://user:hunter2@nowhere"))
    assert status == 2
    assert "RANKER_REDIS__URL" in said
    assert "hunter2" not in said


def test_an_altered_default_bundle_refuses_to_start(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path, "redis://127.0.0.1:1")
    file = service.bundles / "mgnm" / "1" / SCORE
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    status, said = refused(service)
    assert status == 1
    assert "digest differs" in said
    assert "service: the default model of a layer cannot be served" in said


def test_an_altered_treatment_is_served_by_the_default_and_says_so(
    own_redis: RedisServer, tmp_path: Path, processes: list[ServiceProcess]
) -> None:
    service = ServiceProcess(tmp_path, own_redis.url)
    (service.bundles / "pyramid_mixer" / "1" / SCORE).write_bytes(b"cut")
    processes.append(service)
    service.start()
    with httpx.Client(base_url=service.url) as client:
        answers = [client.post("/rank", json=BODY | {"user_id": f"u{number}"}) for number in range(20)]
    for answer in answers:
        treated = ":treatment;" in answer.headers["x-ab-bucket"]
        assert answer.json()["model"] == "mgnm"
        assert answer.json()["degraded"] == (["bundle_unavailable"] if treated else [])
    assert {":treatment;" in answer.headers["x-ab-bucket"] for answer in answers} == {True, False}


def test_a_bad_experiment_file_refuses_to_start_and_says_why(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path, "redis://127.0.0.1:1")
    service.experiments.write_text("schema: 1\nrevision: x\nlayers: []\nlayerz: []\n")
    status, said = refused(service)
    assert status == 1
    assert "layerz" in said
    assert f"the experiment file {service.experiments} cannot be served" in said


def test_a_port_that_is_taken_refuses_to_start(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        status, said = refused(ServiceProcess(tmp_path, "redis://127.0.0.1:1", HTTP__PORT=str(port)))
    assert status == 1
    assert f"service: cannot listen on 127.0.0.1:{port} (Address already in use)" in said
