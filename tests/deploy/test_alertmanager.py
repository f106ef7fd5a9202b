from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.programs import needed

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
RULES = ROOT / "deploy" / "prometheus" / "rules"
pytestmark = pytest.mark.prometheus


def _amtool(*arguments: str) -> str:
    command = [str(needed("amtool", "prometheus-alertmanager")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_alertmanager_accepts_the_configuration() -> None:
    assert "SUCCESS" in _amtool("check-config", str(CONFIG))


def test_each_severity_has_a_receiver_of_its_own() -> None:
    alerts = [
        rule
        for path in RULES.glob("*.yml")
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    severities = {rule["labels"]["severity"] for rule in alerts}
    found = {
        severity: _amtool("config", "routes", "test", "--config.file", str(CONFIG), f"severity={severity}")
        for severity in severities
    }
    assert found == {"page": "page", "ticket": "ticket", "none": "heartbeat"}


def test_inhibition_names_alerts_that_exist() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in RULES.glob("*.yml"))
    for rule in yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["inhibit_rules"]:
        for matcher in [*rule["source_matchers"], *rule["target_matchers"]]:
            label, _, value = matcher.partition("=")
            if label == "alertname":
                for name in value.strip('~"').split("|"):
                    assert name.endswith(".+") or f"alert: {name}\n" in text, name
