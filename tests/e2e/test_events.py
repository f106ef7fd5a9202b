"""The service's guarantees for events, with the real process and real servers: full, gone, and the process killed."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from analysis.tables.reading import rows
from analysis.tables.schemas import ACTIVITY
from tests.support.redis_server import RedisServer
from tests.support.service_process import PlainService, ServiceProcess
from tests.support.sink_process import SinkProcess
from tests.support.streams import stream

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

EXPOSURES, FEEDBACK = "ab:exposure:v1", "fb:activity:v1"
CANDIDATES = [f"i{place}" for place in range(1, 11)]


@pytest.fixture
def events() -> Iterator[RedisServer]:
    """The streams' Redis, which tests stop and fill."""
    server = RedisServer(arguments=("--maxmemory-policy", "noeviction")).start()
    yield server
    server.close()


@pytest.fixture
def service(own_redis: RedisServer, events: RedisServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    process = PlainService(tmp_path, own_redis.url, STREAMS__URL=events.url, STREAMS__CLOSE_TIMEOUT_MS="200")
    yield process
    process.close()


def activity(count: int, first: int = 0, **more: object) -> dict[str, Any]:
    events = [
        {"user_id": f"u{place}", "item_id": f"i{place}", "action": "like"} for place in range(first, first + count)
    ]
    return {"feedback": [{**event, **more} for event in events]}


def typed(count: int, first: int = 0, **more: object) -> dict[str, Any]:
    events = [
        {"user_id": f"u{place % 7}", "type": "like", "event_id": f"e{place}", "item_id": f"i{place}"}
        for place in range(first, first + count)
    ]
    return {"feedback": [{**event, **more} for event in events]}


def refused_places(answer: httpx.Response) -> set[int]:
    """The places in the request of what an answer refuses; the last batch may be taken in part."""
    spans = [(refusal["index"], refusal["count"]) for refusal in answer.json()["refusals"]]
    return {place for index, count in spans for place in range(index, index + count)}


def items_in(server: RedisServer) -> list[str]:
    return [event["item"] for event in stream(server, FEEDBACK)]


def rank(service: ServiceProcess, user: str) -> httpx.Response:
    return httpx.post(f"{service.url}/rank", json={"user_id": user, "candidates": CANDIDATES}, timeout=20)


@pytest.mark.slow
def test_events_that_redis_did_not_take_before_sigterm_are_written_by_the_next_start(
    service: ServiceProcess, events: RedisServer
) -> None:
    service.start()
    events.kill()
    assert rank(service, "u1").json()["degraded"] == []
    for first in (0, 1_000, 2_000):
        answer = httpx.post(f"{service.url}/feedback", json=activity(1_000, first), timeout=20)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1_000)
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    assert "spool_written" in service.log()
    events.start()
    service.start()
    service.until(lambda: service.metric("ranker_stream_replayed_total") == 3_001, "replayed")
    written = stream(events, FEEDBACK)
    assert sorted(event["item"] for event in written) == sorted(f"i{place}" for place in range(3_000))
    assert len({event["id"] for event in written}) == 3_000
    assert [event["unit"] for event in stream(events, EXPOSURES)] == ["u1"]
    assert list((service.folder / "spool").iterdir()) == []
    service.send(signal.SIGTERM)
    assert service.wait() == 0


@pytest.mark.slow
def test_the_same_events_sent_five_times_are_as_many_rows_as_once_across_a_kill(
    service: ServiceProcess, events: RedisServer, tmp_path: Path
) -> None:
    """The repeats even differ in their time and order, as a client's that retries hours later would."""
    service.start()
    sent = typed(1_000)
    answers = []
    for turn in range(5):
        if turn == 3:
            service.process.kill()
            service.wait()
            service.start()
        again = [{**event, "ts": 1_700_000_000_000 + turn} for event in sent["feedback"]][:: 1 if turn % 2 else -1]
        answers.append(httpx.post(f"{service.url}/feedback?ack=stored", json={"feedback": again}, timeout=20))
    assert [(answer.status_code, answer.json()["stored"]) for answer in answers] == [(200, 1_000)] * 5
    assert [answer.json()["clamped"] for answer in answers] == [1_000] * 5
    assert service.metric("ranker_feedback_clamped_total") == 2_000
    assert len(stream(events, FEEDBACK)) == 5_000
    sink = SinkProcess(tmp_path / "parquet", events.url, "--once")
    assert sink.run() == 0, sink.log_file.read_text()
    found = rows(duckdb.connect(), sink.out, "activity").fetchall()
    names = ACTIVITY.names
    assert len(found) == len({row[names.index("id")] for row in found}) == 1_000
    assert {(row[names.index("unit")], row[names.index("item")]) for row in found} == {
        (event["user_id"], event["item_id"]) for event in sent["feedback"]
    }


@pytest.mark.parametrize("make", [activity, typed])
def test_sigkill_loses_nothing_that_was_answered_as_stored(
    service: ServiceProcess, events: RedisServer, make: Callable[..., dict[str, Any]]
) -> None:
    service.start()
    stored: list[str] = []
    enough = threading.Event()

    def caller(number: int) -> None:
        with httpx.Client(base_url=service.url, timeout=20) as client:
            for place in range(1_000):
                sent = make(5, first=number * 100_000 + place * 5)
                try:
                    answer = client.post("/feedback?ack=stored", json=sent)
                except httpx.TransportError:  # killed
                    return
                assert (answer.status_code, answer.json()["stored"]) == (200, 5), answer.text
                stored.extend(event["item_id"] for event in sent["feedback"])
                if len(stored) >= 300:
                    enough.set()

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(caller, number) for number in range(4)]
        assert enough.wait(60)
        service.process.kill()
        for one in running:
            one.result(60)
    assert len(stored) >= 300
    assert set(stored) <= set(items_in(events))


@pytest.mark.slow
def test_a_request_with_one_bad_event_stores_nothing_and_the_repaired_one_stores_all(
    service: ServiceProcess, events: RedisServer
) -> None:
    service.start()
    sent = typed(20)
    bad = {"user_id": "u-secret", "type": "play_end", "item_id": "i1", "view_id": "v1", "play_ms": -7}
    refused = httpx.post(f"{service.url}/feedback?ack=stored", json={"feedback": [*sent["feedback"], bad]}, timeout=20)
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, "feedback.20.play_ms")
    assert stream(events, FEEDBACK) == []
    repaired = {"feedback": [*sent["feedback"], {**bad, "play_ms": 7}]}
    answer = httpx.post(f"{service.url}/feedback?ack=stored", json=repaired, timeout=20)
    assert answer.json() == {
        "accepted": 21, "stored": 21, "dropped": 0, "refused": 0, "clamped": 0, "refusals": [],
    }  # fmt: skip
    assert len(stream(events, FEEDBACK)) == 21
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    assert "u-secret" not in service.log()


def test_stored_is_503_while_redis_is_away_and_sending_again_makes_no_second_event(
    service: ServiceProcess, events: RedisServer
) -> None:
    service.start()
    events.freeze()
    sent = activity(3, ts=1_700_000_000_000)
    answer = httpx.post(f"{service.url}/feedback?ack=stored", json=sent, headers={"x-deadline-ms": "500"}, timeout=20)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    events.thaw()
    service.until(lambda: _again(service, sent).status_code == 200, "stored")
    ids = [event["id"] for event in stream(events, FEEDBACK)]
    assert len(set(ids)) == 3 < len(ids)


def _again(service: ServiceProcess, sent: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{service.url}/feedback?ack=stored", json=sent, timeout=20)


@pytest.mark.slow
def test_full_streams_stop_no_ranking_and_evict_no_behaviour(
    service: ServiceProcess, own_redis: RedisServer, events: RedisServer
) -> None:
    own_redis.call("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    own_redis.call("CONFIG", "SET", "maxmemory", "50mb")
    events.call("CONFIG", "SET", "maxmemory", "2500000")
    service.start()
    behaviours = [
        {"user_id": f"u{place}", "item_id": f"i{place % 10 + 1}", "ts": 1_700_000_000_000 + place}
        for place in range(500)
    ]
    assert httpx.post(f"{service.url}/behaviours", json={"behaviours": behaviours}, timeout=20).json()["stored"] == 500
    first, accepted = 0, set[int]()
    while (answer := httpx.post(f"{service.url}/feedback", json=activity(1_000, first), timeout=20)).status_code == 202:
        accepted |= set(range(first, first + 1_000)) - {first + place for place in refused_places(answer)}
        first += 1_000
        assert first < 100_000
    assert answer.status_code == 429
    assert service.metric("ranker_stream_queue_depth", stream=FEEDBACK) > 0
    ranked = rank(service, "u1")
    assert (ranked.status_code, ranked.json()["degraded"]) == (200, [])
    assert own_redis.call("DBSIZE") == b":500\r\n"
    service.will_log("stream_write_refused")
    assert service.metric("ranker_feedback_total") == len(accepted)
    events.call("CONFIG", "SET", "maxmemory", "100mb")
    service.until(lambda: service.metric("ranker_stream_queue_depth", stream=FEEDBACK) == 0, "written")
    assert set(items_in(events)) == {f"i{place}" for place in accepted}


@pytest.mark.slow
def test_one_redis_for_both_is_warned_of_at_start(own_redis: RedisServer, tmp_path: Path) -> None:
    service = PlainService(tmp_path, own_redis.url)
    try:
        service.start()
        service.until(lambda: "redis_setup" in service.log(), "looked at")
        service.will_log("RANKER_STREAMS__URL")
        problems = [json.loads(line) for line in service.log().splitlines() if '"redis_setup"' in line]
        assert any("RANKER_STREAMS__URL" in line["problem"] for line in problems)
    finally:
        service.close()
