"""Every query of every panel and rule, asked of a real Prometheus that scraped the real service under a little load."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from analysis.__main__ import main
from contract.bundle import manifest as names
from contract.bundle.reference import Items, format_reference
from deploy.dashboards.__main__ import BOARDS
from deploy.dashboards.panels import Board
from tests.support.access import bearer, document, entry, key_of
from tests.support.builders import TinyModel
from tests.support.experiment_data import EXPERIMENT, write_data, write_plan
from tests.support.guard_process import GuardProcess
from tests.support.programs import needed
from tests.support.prometheus_server import SOURCE, Prometheus
from tests.support.redis_server import RedisServer, free_port
from tests.support.references import reference_of
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
VARIABLES = {variable.name: variable for board in BOARDS for variable in board.variables}
CHOICES = [
    pytest.param(board, variable.name, id=f"{board.name}/{variable.name}")
    for board in BOARDS
    for variable in board.variables
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
    guard: str


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """The real service, sink and guard, with a real Redis and two tiny bundles, one of them a shadow too."""
    needed("prometheus", "prometheus")  # before anything is started in vain
    redis = RedisServer().start()
    folder, port = tmp_path_factory.mktemp("service"), str(free_port())
    process = ServiceProcess(folder, redis.url, RANKING_LOG__SHARE="1", ACCESS__FILE=str(_callers(folder)), **PATIENT)
    _watch(process.experiments)
    _refer(process.bundles / "mgnm" / "1")
    _report(folder, process.experiments)
    options = ("--batch-seconds", "0.2", "--metrics-port", port, "--reports", str(folder / "reports"))
    sink, guard = SinkProcess(folder / "parquet", redis.url, *options), None
    try:
        sink.start()
        url = process.start().url
        guard = GuardProcess(folder, process.experiments, folder / "parquet", "--dry-run", "--every", "5s")
        yield Addresses(url, f"127.0.0.1:{port}", f"127.0.0.1:{guard.port}")
    finally:
        process.close()
        if guard is not None:
            guard.close()
        sink.close()
        redis.close()


def _callers(folder: Path) -> Path:
    """Write the access file: a feed, Prometheus, and a reader who may not rank."""
    file = folder / "access.json"
    callers = (entry("feed", "rank", "write"), entry("prometheus", "metrics"), entry("reader", "read-history"))
    file.write_bytes(document(*callers))
    return file


def _watch(experiments: Path) -> None:
    """Give the running experiment a ramp that has reached everyone, and the control's users a shadow."""
    document = yaml.safe_load(experiments.read_text(encoding="utf-8"))
    [running] = document["layers"][0]["experiments"]
    running["ramp"] = [{"at": running["start"], "share": 1.0}]
    [control] = [arm for arm in running["arms"] if arm["key"] == "control"]
    control["shadow"] = {"model": "pyramid_mixer", "version": "1", "share": 1.0}
    experiments.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def _refer(bundle: Path) -> None:
    """Give one of the bundles a record of its validation; the other one has its golden rows only."""
    record = reference_of(behaviours=Items(known=9, unknown=1))
    (bundle / names.REFERENCE).write_bytes(format_reference(record))
    TinyModel(model="mgnm").seal(bundle)


def _report(folder: Path, experiments: Path) -> None:
    """Write a real report of simulated users, under the name of the experiment that the service runs."""
    write_data(folder / "data", 400)
    plan, out = write_plan(folder / "plan.yaml"), folder / "reports" / "watched"
    arguments = [EXPERIMENT, "--data", str(folder / "data"), "--out", str(out), "--window", "7"]
    assert main(["report", *arguments, "--experiments", str(plan)]) == 0
    (running,) = yaml.safe_load(experiments.read_text(encoding="utf-8"))["layers"][0]["experiments"]
    document = json.loads((out / "report.json").read_text(encoding="utf-8"))
    (out / "report.json").write_text(json.dumps(document | {"experiment": running["key"]}), encoding="utf-8")


@pytest.fixture(scope="module")
def prometheus(service: Addresses) -> Iterator[Prometheus]:
    """A Prometheus that has scraped the service before, during and after a little load."""
    server = Prometheus(
        service.service.removeprefix("http://"), service.sink, guard=service.guard, key=key_of("prometheus")
    )
    try:
        for turn in range(3):
            _load(service.service, turn)
            seen = server.scrapes()
            server.wait_until(lambda seen=seen: server.scrapes() >= seen + 2, "two more scrapes")  # type: ignore[misc]
        server.wait_until(lambda: all(rule["lastEvaluation"] > "1" for rule in server.rules()), "rules evaluated")
        server.wait_until(lambda: bool(server.query(RECORDED[-1])), "recorded")
        server.wait_until(lambda: bool(server.query("ranker_sink_rows_total > 0")), "the sink wrote")
        server.wait_until(lambda: bool(server.query("ranker_guard_harm_at_least")), "the guard found 100 users")
        server.wait_until(lambda: bool(server.query("ranker_shadow_rankings_total > 0")), "the shadow compared")
        yield server
    finally:
        server.close()


def _load(url: str, turn: int) -> None:
    """Do one of everything: both arms, known and unknown items, feedback, and requests that are refused.

    With new users each turn, since a user's exposure is written once in a while and not with each ranking.
    """
    now = int(time.time() * 1000)
    with httpx.Client(base_url=url, headers=bearer("feed")) as client:
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
        for number in range(1000 + 120 * turn, 1120 + 120 * turn):  # a bundle needs 100 for an index of drift
            assert client.post("/rank", json={"user_id": f"u{number}", "candidates": ["i1", "i2"]}).status_code == 200
        assert client.post("/rank", json={"user_id": "u1", "candidates": []}).status_code == 422
        assert client.post("/behaviours", json={}).status_code == 422
        assert client.post("/rank", json={}, headers=bearer("reader")).status_code == 403
        assert client.post("/rank", json={}, headers=bearer("unknown")).status_code == 401
        assert client.get("/info", headers=bearer("prometheus")).status_code == 403
        for path in ("/health/live", "/health/ready", "/nothing-here"):
            client.get(path)


def _numbers(series: list[dict[str, Any]]) -> list[float]:
    return [float(one["value"][1]) for one in series]


def _with(expression: str, **chosen: str) -> str:
    """Fill in the variables of a board as Grafana does; those that are not chosen are "All"."""
    values = dict.fromkeys(VARIABLES, ".*") | {"__rate_interval": "1m"} | chosen
    for name, value in values.items():
        expression = expression.replace(f"${name}", value)
    assert "$" not in expression
    return expression


@pytest.mark.parametrize("expression", PANELS)
def test_query_of_panel_parses_and_has_data(prometheus: Prometheus, expression: str) -> None:
    numbers = _numbers(prometheus.query(_with(expression)))
    assert numbers
    assert not all(math.isnan(number) for number in numbers)


def _values(prometheus: Prometheus, name: str) -> list[str]:
    """Return what the list of a variable offers."""
    variable = VARIABLES[name]
    asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable.query)
    assert asked
    return sorted({one["metric"][asked[2]] for one in prometheus.query(asked[1])})


def test_the_list_of_each_variable_offers_what_runs(prometheus: Prometheus, service: Addresses) -> None:
    assert _values(prometheus, "instance") == [service.service.removeprefix("http://")]
    assert _values(prometheus, "model") == ["mgnm", "pyramid_mixer"]
    assert len(_values(prometheus, "experiment")) == 1


@pytest.mark.parametrize(("board", "name"), CHOICES)
def test_a_choice_of_a_variable_has_data_and_another_one_has_none(
    prometheus: Prometheus, board: Board, name: str
) -> None:
    chosen = f"({'|'.join(_values(prometheus, name))})"  # as Grafana writes a choice of several
    for title, expression in board.queries():
        if f"${name}" in expression:
            assert prometheus.query(_with(expression, **{name: chosen})), title
            others = prometheus.query(_with(expression, **{name: "of-another-service"}))
            if "or vector(0)" not in expression:
                assert all(name == "experiment" and one["metric"]["variant"] == "none" for one in others), title


def test_the_verdict_of_the_report_is_seen(prometheus: Prometheus) -> None:
    (verdict,) = prometheus.query("ranker_report_info")
    assert verdict["metric"]["verdict"] == "better"
    assert len(prometheus.query('ranker_report_lift{metric="playtime"}')) == 3


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
    for selector in selectors:  # a bundle has no earlier traffic until it has served for 10 minutes
        assert prometheus.query(selector.replace('reference="earlier"', 'reference="golden"')), selector


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
