"""Traces of the running service at a real collector: which requests, and what their spans show."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.redis_server import RedisServer, free_port
from tests.support.service_process import PlainService
from tests.support.trace_collector import Received, TraceCollector

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

BODY = {"user_id": "user-not-to-be-seen", "candidates": ["i1", "i2", "item-not-to-be-seen"]}
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = CALLER[:-1] + "0"
OPENMETRICS = {"accept": "application/openmetrics-text"}


@pytest.fixture
def collector() -> Iterator[TraceCollector]:
    collector = TraceCollector()
    yield collector
    collector.close()


@pytest.fixture
def service(collector: TraceCollector, own_redis: RedisServer, tmp_path: Path) -> Iterator[PlainService]:
    service = PlainService(
        tmp_path, own_redis.url, TRACES__ENDPOINT=collector.url, TRACES__SHARE="0", TRACES__MAX_PER_SECOND="1000"
    )
    yield service
    service.close()


def rank(service: PlainService, **headers: str) -> httpx.Response:
    return httpx.post(f"{service.url}/rank", json=BODY, headers=headers)


def end(service: PlainService) -> None:
    """End the service, which sends its last spans."""
    service.send(signal.SIGTERM)
    assert service.wait() == 0


def named(spans: list[Received], name: str) -> list[Received]:
    return [span for span in spans if span.name == name]


def test_a_traced_caller_sees_its_ranking_by_stages_and_the_batch_it_joined(
    service: PlainService, collector: TraceCollector
) -> None:
    service.start()
    assert rank(service, traceparent=UNSAMPLED).status_code == 200
    assert rank(service).status_code == 200
    answer = rank(service, traceparent=CALLER, **{"x-request-id": "one-of-mine"})
    assert answer.headers["traceparent"] == CALLER
    metrics = httpx.get(f"{service.url}/metrics", headers=OPENMETRICS)
    end(service)

    (root,) = named(collector.spans, "POST /rank")
    assert (root.trace_id, root.parent_id) == (CALLER[3:35], CALLER[36:52])
    assert root.attributes["ranker.request_id"] == "one-of-mine"
    assert root.attributes["ranker.model"] == "mgnm@1"
    below = {span.name: span for span in collector.spans if span.parent_id == root.span_id}
    assert set(below) == {"store", "queue", "inference", "order"}
    assert {span.trace_id for span in below.values()} == {root.trace_id}
    assert sum(span.seconds for span in below.values()) <= root.seconds
    (batch,) = named(collector.spans, "batch")
    assert below["inference"].links == [batch.trace_id]
    assert batch.attributes == {"ranker.bundle": "mgnm@1", "ranker.batch.rows": 1}
    assert [span.name for span in collector.spans if span.parent_id == batch.span_id] == ["encode", "score"]

    assert metrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    shown = [line for line in metrics.text.splitlines() if "# {" in line]
    assert len(shown) == 1
    assert shown[0].startswith("ranker_request_duration_seconds_bucket{")
    assert f'trace_id="{CALLER[3:35]}"' in shown[0]
    assert "not-to-be-seen" not in str(collector.spans)


@pytest.mark.slow
def test_a_share_of_other_requests_is_traced_under_the_id_that_the_log_shows(
    collector: TraceCollector, own_redis: RedisServer, tmp_path: Path
) -> None:
    service = PlainService(
        tmp_path, own_redis.url, TRACES__ENDPOINT=collector.url, TRACES__SHARE="1", TRACES__MAX_PER_SECOND="1000"
    ).start()
    try:
        given = rank(service).headers["x-request-id"]
        assert rank(service, **{"x-request-id": "chosen"}).status_code == 200
        assert rank(service, **{"content-type": "text/plain"}).status_code == 415
        httpx.get(f"{service.url}/health/live")
        end(service)
    finally:
        service.close()
    traces = {span.attributes["ranker.request_id"]: span for span in named(collector.spans, "POST /rank")}
    assert traces[given].trace_id == given
    logged = [json.loads(line) for line in service.log().splitlines() if '"request"' in line]
    assert {line["request_id"]: line["trace_id"] for line in logged if line.get("route") == "/rank"} == {
        name: span.trace_id for name, span in traces.items()
    }
    assert sorted(span.attributes["http.response.status_code"] for span in traces.values()) == [200, 200, 415]
    assert not named(collector.spans, "GET /health/live")


@pytest.mark.slow
def test_a_collector_that_is_away_costs_only_spans(own_redis: RedisServer, tmp_path: Path) -> None:
    service = PlainService(
        tmp_path, own_redis.url, TRACES__ENDPOINT=f"http://127.0.0.1:{free_port()}/v1/traces", TRACES__SHARE="1",
        TRACES__MAX_PER_SECOND="3",
    ).start()  # fmt: skip
    try:
        assert {rank(service).status_code for _ in range(50)} == {200}
        assert service.metric("ranker_traces_over_limit_total") > 0
        service.until(lambda: service.metric("ranker_spans_total", result="failed") > 0, "spans failed", 30)
        end(service)
    finally:
        service.close()
    assert "Traceback" not in service.log()
    assert "not-to-be-seen" not in service.log()
