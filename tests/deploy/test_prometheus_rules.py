from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.programs import needed

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
UNIT_TESTS = ROOT / "tests" / "deploy" / "prometheus" / "alerts.test.yml"


def _promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(needed("promtool", "prometheus")), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load((PROMETHEUS / "rules" / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


@pytest.mark.prometheus
def test_prometheus_accepts_the_configuration_and_its_rules() -> None:
    done = _promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.prometheus
def test_alerts_fire_when_they_should_and_only_then() -> None:
    done = _promtool("test", "rules", str(UNIT_TESTS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_says_what_is_wrong_and_what_to_do_first() -> None:
    for rule in _alerts():
        assert rule["annotations"].keys() == {"summary", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]


def test_every_alert_is_made_to_fire_by_a_unit_test() -> None:
    document = yaml.safe_load(UNIT_TESTS.read_text(encoding="utf-8"))
    fired = {
        case["alertname"]
        for scenario in document["tests"]
        for case in scenario.get("alert_rule_test", [])
        if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in _alerts()}
