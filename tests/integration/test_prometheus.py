"""Every query of every panel and rule, asked of a real Prometheus that scraped the real service under a little load."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from deploy.dashboards.__main__ import BOARDS
from tests.support.programs import needed
from tests.support.prometheus_server import SOURCE, Prometheus
from tests.support.redis_server import RedisServer, free_port
from tests.support.service_process import ServiceProcess
from tests.support.sink_process import SinkProcess

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.redis,
    pytest.mark.onnx,
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(180),
]

PANELS = [
    pytest.param(expression, id=f"{board.name}/{title}/{place}")
    for board in BOARDS
    for place, (title, expression) in enumerate(board.queries())
]
RULES: list[dict[str, Any]] = [
    rule
    for path in sorted((SOURCE / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
RECORDED = [rule["record"] for rule in RULES if "record" in rule]
ALERTS = [
    pytest.param(rule["expr"], id=f"{rule['alert']}/{rule['labels'].get('burn', '')}")
    for rule in RULES
    if "alert" in rule and rule["labels"]["severity"] != "none"
]
SELECTOR = re.compile(r"\b(?:ranker_\w+|\w+:ranker_\w+:\w+|up)\b(?:\{[^}]*\})?")

# A busy machine is not what is tested here.
PATIENT = {
    "REDIS__READ_TIMEOUT_MS": "5000",
    "REDIS__WRITE_TIMEOUT_MS": "5000",
    "LIMITS__DEADLINE_MS": "20000",
    "LIMITS__MAX_DEADLINE_MS": "20000",
}


class Addresses(NamedTuple):
    service: str
    sink: str


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """The real service and the real sink, as processes, with a real Redis and two tiny bundles."""
    needed("prometheus", "prometheus")  # before anything is started in vain
    redis = RedisServer().start()
    folder, port = tmp_path_factory.mktemp("service"), str(free_port())
    process = ServiceProcess(folder, redis.url, RANKING_LOG__SHARE="1", **PATIENT)
    sink = SinkProcess(Path(folder) / "parquet", redis.url, "--batch-seconds", "0.2", "--metrics-port", port)
    try:
        sink.start()
        yield Addresses(process.start().url, f"127.0.0.1:{port}")
    finally:
        process.close()
        sink.close()
        redis.close()


@pytest.fixture(scope="module")
def prometheus(service: Addresses) -> Iterator[Prometheus]:
    """A Prometheus that has scraped the service before, during and after a little load."""
    server = Prometheus(service.service.removeprefix("http://"), service.sink)
    try:
        for turn in range(3):
            _load(service.service, turn)
            seen = server.scrapes()
            server.wait_until(lambda seen=seen: server.scrapes() >= seen + 2, "two more scrapes")  # type: ignore[misc]
        server.wait_until(lambda: all(rule["lastEvaluation"] > "1" for rule in server.rules()), "rules evaluated")
        server.wait_until(lambda: bool(server.query(RECORDED[-1])), "recorded")
        server.wait_until(lambda: bool(server.query("ranker_sink_rows_total > 0")), "the sink wrote")
        yield server
    finally:
        server.close()


def _load(url: str, turn: int) -> None:
    """Do one of everything: both arms, known and unknown items, feedback, and what is refused.

    With new users each turn, since a user's exposure is written once in a while and not with each ranking.
    """
    now = int(time.time() * 1000)
    with httpx.Client(base_url=url) as client:
        for number in range(20 * turn, 20 * turn + 20):
            behaviours = [{"user_id": f"u{number}", "item_id": f"i{item}", "ts": now - item} for item in range(1, 9)]
            assert client.post("/behaviours", json={"behaviours": behaviours}).status_code == 200
            candidates = [f"i{item}" for item in range(1, 18)] + ["never-seen"]
            answer = client.post("/rank", json={"user_id": f"u{number}", "candidates": candidates})
            assert answer.status_code == 200, answer.text
            assert answer.json()["degraded"] == []
            activity = {"user_id": f"u{number}", "item_id": "i1", "action": "play", "ts": now}
            sent = client.post(
                "/feedback", json={"feedback": [{**activity, "request_id": answer.json()["request_id"]}]}
            )
            assert sent.status_code in {200, 202}, sent.text
        assert client.post("/rank", json={"user_id": "u1", "candidates": []}).status_code == 422
        assert client.post("/behaviours", json={}).status_code == 422
        for path in ("/info", "/health/live", "/health/ready", "/nothing-here"):
            client.get(path)


def _numbers(series: list[dict[str, Any]]) -> list[float]:
    return [float(one["value"][1]) for one in series]


@pytest.mark.parametrize("expression", PANELS)
def test_query_of_panel_parses_and_has_data(prometheus: Prometheus, expression: str) -> None:
    numbers = _numbers(prometheus.query(expression.replace("$__rate_interval", "1m")))
    assert numbers
    assert not all(math.isnan(number) for number in numbers)


@pytest.mark.parametrize("name", RECORDED)
def test_recording_rule_has_data(prometheus: Prometheus, name: str) -> None:
    prometheus.wait_until(lambda: bool(prometheus.query(name)), name)
    assert not all(math.isnan(number) for number in _numbers(prometheus.query(name)))


@pytest.mark.parametrize("expression", ALERTS)
def test_alert_looks_at_series_that_are_there(prometheus: Prometheus, expression: str) -> None:
    """An alert on a series that is not exported never fires: the expression is empty when all is well either way."""
    prometheus.query(expression)
    selectors = SELECTOR.findall(expression)
    assert selectors
    for selector in selectors:
        assert prometheus.query(selector), selector


def test_prometheus_evaluates_every_rule_without_complaint(prometheus: Prometheus) -> None:
    rules = prometheus.rules()
    assert len(rules) == len(RULES)
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}


def test_no_alert_is_raised_by_a_service_that_does_well(prometheus: Prometheus) -> None:
    """Not even one that waits to be sure; but for latency, which depends more on the machine."""
    assert [one["metric"] for one in prometheus.query('ALERTS{alertname!="RankerSlow", severity!="none"}')] == []


def test_both_arms_are_seen(prometheus: Prometheus) -> None:
    arms = {one["metric"]["variant"] for one in prometheus.query("sum by (variant) (ranker_exposures_total) > 0")}
    assert arms == {"control", "treatment"}
