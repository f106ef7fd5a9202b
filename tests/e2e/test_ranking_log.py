"""The ranking log of the real service: feedback joins to it, and it agrees with the metrics arm by arm."""

from __future__ import annotations

import json
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from analysis.tables.schemas import RANKINGS
from contract.events.activity import activity_row
from contract.events.ranking_log import is_sampled, ranking_row
from contract.events.streams import ACTIVITY_STREAM, RANKING_STREAM
from deploy.experiments import write_current
from tests.support.builders import TinyModel
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess
from tests.support.streams import stream

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

POISON = 18  # the index of an item; the treatment fails on users who have met it
CANDIDATES = [f"i{place}" for place in range(1, 13)]
Start = Callable[..., ServiceProcess]


@pytest.fixture
def events() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture
def start(own_redis: RedisServer, events: RedisServer, tmp_path: Path) -> Iterator[Start]:
    """Start a service whose treatment fails on users who have met one item."""
    TinyModel(model="mgnm").write(tmp_path / "bundles")
    TinyModel(model="pyramid_mixer", poison_item=POISON).write(tmp_path / "bundles")
    write_current(tmp_path / "experiments.yaml")
    made: list[ServiceProcess] = []

    def started(**settings: str) -> ServiceProcess:
        made.append(ServiceProcess(tmp_path, own_redis.url, STREAMS__URL=events.url, **settings))
        return made[-1].start()

    yield started
    for one in made:
        one.close()


def rank(service: ServiceProcess, user: str, **headers: str) -> httpx.Response:
    body = {"user_id": user, "candidates": CANDIDATES, "attributes": {"platform": "ios", "secret": "s"}}
    return httpx.post(f"{service.url}/rank", json=body, headers=headers, timeout=20)


def stop(service: ServiceProcess) -> None:
    service.send(signal.SIGTERM)
    assert service.wait() == 0


def rankings(server: RedisServer) -> list[dict[str, Any]]:
    return [ranking_row(event) for event in stream(server, RANKING_STREAM)]


def variant(row: dict[str, Any]) -> str:
    return ",".join(f"{arm['exp']}:{arm['arm']}" for arm in row["arms"]) or "none"


def counted(service: ServiceProcess, name: str, *labels: str) -> Counter[tuple[str, ...]]:
    """A counter of the service by labels, without those that are 0."""
    text = httpx.get(f"{service.url}/metrics", timeout=20).text
    found: Counter[tuple[str, ...]] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.value:
                found[tuple(sample.labels[label] for label in labels)] += int(sample.value)
    return found


def hang_up(service: ServiceProcess, user: str) -> None:
    body = json.dumps({"user_id": user, "candidates": CANDIDATES}).encode()
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        head = (
            f"POST /rank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        service.until(lambda: service.metric("ranker_inflight_requests") > 1, "begun")


def test_every_feedback_of_a_sampled_user_joins_to_its_ranking(start: Start, events: RedisServer) -> None:
    service = start(RANKING_LOG__SHARE="0.3", RANKING_LOG__TOP="5", RANKING_LOG__ATTRIBUTES='["platform"]')
    sent, shown = [], {}
    for place in range(120):
        user = f"u{place}"
        for _ in range(2):  # the exposure is written once; the ranking each time
            answer = rank(service, user)
            items = [item["item_id"] for item in answer.json()["items"]]
            shown[answer.headers["x-request-id"]] = (user, answer.json())
            sent.append({
                "user_id": user, "type": "like", "event_id": str(len(sent)), "item_id": items[place % 5],
                "request_id": answer.headers["x-request-id"],
            })  # fmt: skip
    assert httpx.post(f"{service.url}/feedback", json={"feedback": sent}, timeout=20).json()["accepted"] == 240
    stop(service)
    rows = {row["req"]: row for row in rankings(events)}
    sampled = {user for user, _ in shown.values() if is_sampled(user, 0.3)}
    assert 20 < len(sampled) < 60
    assert {row["unit"] for row in rows.values()} == sampled
    joined = 0
    for event in map(activity_row, stream(events, ACTIVITY_STREAM)):
        if event["unit"] in sampled:
            row = rows[event["req"]]
            assert row["unit"] == event["unit"]
            assert event["item"] in [item["item"] for item in row["items"]]
            joined += 1
    assert joined == len(rows) == 2 * len(sampled)
    for request_id, row in rows.items():
        answer = shown[request_id][1]
        assert list(row) == RANKINGS.names
        assert [(item["item"], item["rank"], item["score"]) for item in row["items"]] == [
            (item["item_id"], place, item["score"]) for place, item in enumerate(answer["items"][:5], start=1)
        ]
        assert (row["model"], row["ver"], row["k"], row["n_cand"]) == (answer["model"], answer["version"], 12, 12)
        assert row["attributes"] == '{"platform": "ios"}'
        assert row["latency_us"] > 0


@pytest.mark.slow
def test_outcomes_by_arm_are_those_of_the_metrics(start: Start, own_redis: RedisServer, events: RedisServer) -> None:
    service = start(
        RANKING_LOG__SHARE="1", INFERENCE__POPULARITY_FALLBACK="false", REDIS__READ_TIMEOUT_MS="200",
        EXPERIMENTS__PSEUDONYM_KEY="key",
    )  # fmt: skip
    for place in range(40):
        assert rank(service, f"u{place}").json()["degraded"] == []
    met = [{"user_id": f"p{place}", "item_id": f"i{POISON}", "ts": 1_700_000_000_000} for place in range(30)]
    assert httpx.post(f"{service.url}/behaviours", json={"behaviours": met}, timeout=20).json()["stored"] == 30
    assert {rank(service, f"p{place}").status_code for place in range(30)} == {200, 500}
    own_redis.freeze()
    hang_up(service, "u1")
    service.until(lambda: service.metric("ranker_inflight_requests") == 1, "noticed")
    with ThreadPoolExecutor(20) as threads:
        without = list(threads.map(lambda place: rank(service, f"u{place}"), range(20)))
        late = list(threads.map(lambda place: rank(service, f"u{place}", **{"x-deadline-ms": "1"}), range(30)))
    assert {tuple(answer.json()["degraded"]) for answer in without} == {("store_unavailable",)}
    assert {answer.status_code for answer in late} == {504}
    own_redis.thaw()
    by_outcome = counted(service, "ranker_rankings_total", "variant", "outcome")
    by_status = counted(service, "ranker_requests_total", "route", "variant", "status")
    stop(service)
    rows = rankings(events)
    logged = Counter((variant(row), row["outcome"]) for row in rows)
    assert logged == by_outcome
    assert {outcome for _, outcome in logged} == {"ok", "degraded", "refused", "error", "gone"}
    assert len({arm for arm, _ in logged}) >= 2
    statuses = {"ok": "200", "degraded": "200", "refused": "504", "error": "500", "gone": "499"}
    expected: Counter[tuple[str, ...]] = Counter()
    for (arm, outcome), count in logged.items():
        expected["/rank", arm, statuses[outcome]] += count
    before_a_decision = {"none"}  # refusals of which no user is known
    assert expected == {key: n for key, n in by_status.items() if key[0] == "/rank" and key[1] not in before_a_decision}
    reasons = {(row["outcome"], *row["reasons"]) for row in rows}
    assert reasons == {
        ("ok",), ("gone",), ("degraded", "store_unavailable"), ("refused", "deadline_exceeded"),
        ("error", "inference_failed"),
    }  # fmt: skip
    assert {arm for arm, outcome in logged if outcome == "error"} == {next(a for a, _ in logged if "treatment" in a)}
    assert all(row["unit"].startswith("h:") for row in rows)


@pytest.mark.slow
def test_lost_rankings_are_counted_by_arm_and_no_ranking_waits(start: Start, events: RedisServer) -> None:
    service = start(RANKING_LOG__SHARE="1", STREAMS__MAX_QUEUE="7", STREAMS__WRITE_TIMEOUT_MS="200")
    events.kill()
    for place in range(40):
        assert rank(service, f"u{place}").status_code == 200
    labels = ("experiment", "variant")
    all_of_them = counted(service, "ranker_rankings_total", "variant")
    lost = counted(service, "ranker_rankings_dropped_total", *labels)
    kept = counted(service, "ranker_rankings_logged_total", *labels)
    assert lost.total() == 33
    assert {(":".join(arm),): count for arm, count in (lost + kept).items()} == dict(all_of_them)
    events.start()
    service.until(lambda: service.metric("ranker_stream_queue_depth", stream=RANKING_STREAM) == 0, "written")
    assert Counter(variant(row) for row in rankings(events)) == {":".join(arm): count for arm, count in kept.items()}


@pytest.mark.slow
def test_without_a_share_nothing_is_logged(start: Start, events: RedisServer) -> None:
    service = start()
    assert rank(service, "u1").status_code == 200
    stop(service)
    assert events.call("EXISTS", RANKING_STREAM) == b":0\r\n"
