from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.programs import needed

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
UNIT_TESTS = sorted((ROOT / "tests" / "deploy" / "prometheus").glob("*.test.yml"))
RUNBOOKS = ROOT / "docs" / "alerts.md"


def _promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(needed("promtool", "prometheus")), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _alerts() -> list[dict[str, Any]]:
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(PROMETHEUS.glob("rules/*.yml"))]
    rules = [rule for document in documents for group in document["groups"] for rule in group["rules"]]
    return [rule for rule in rules if "alert" in rule]


def _cases() -> list[dict[str, Any]]:
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in UNIT_TESTS]
    scenarios = [scenario for document in documents for scenario in document["tests"]]
    return [case for scenario in scenarios for case in scenario.get("alert_rule_test", [])]


@pytest.mark.prometheus
def test_prometheus_accepts_the_configuration_and_its_rules(tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    (tmp_path / "key").touch()  # promtool asks whether the file of the key is there
    text = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    assert "/run/secrets/key" in text
    (tmp_path / "prometheus.yml").write_text(text.replace("/run/secrets/key", "key"))
    done = _promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 rule files found" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.prometheus
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.name)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    done = _promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_summary_a_first_step_and_a_severity() -> None:
    for rule in _alerts():
        assert rule["annotations"].keys() == {"summary", "action", "runbook_url"}, rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket", "none"}, rule["alert"]


def test_every_alert_is_made_to_fire_at_each_of_its_burn_rates() -> None:
    fired = {
        (case["alertname"], alert["exp_labels"].get("burn"), alert["exp_labels"]["severity"])
        for case in _cases()
        for alert in case["exp_alerts"]
    }
    assert fired == {(rule["alert"], rule["labels"].get("burn"), rule["labels"]["severity"]) for rule in _alerts()}


def test_every_alert_is_shown_to_be_quiet() -> None:
    quiet = {case["alertname"] for case in _cases() if not case["exp_alerts"]}
    assert quiet == {rule["alert"] for rule in _alerts()} - {"RankerHeartbeat"}  # this one always fires


def test_every_alert_links_to_its_section_of_the_runbook() -> None:
    sections = set(re.findall(r"^### (Ranker\w+)$", RUNBOOKS.read_text(encoding="utf-8"), re.M))
    assert sections == {rule["alert"] for rule in _alerts()}
    for rule in _alerts():
        assert rule["annotations"]["runbook_url"].endswith(f"/alerts.md#{rule['alert'].lower()}"), rule["alert"]
    assert len({rule["annotations"]["runbook_url"].partition("#")[0] for rule in _alerts()}) == 1
