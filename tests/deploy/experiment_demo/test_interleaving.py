"""Half of the users get interleaved lists, and the users that both tests need are compared."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console
from scipy import stats

from contract.experiments.assignment import snapshot_of
from contract.experiments.served import unserved
from deploy.experiment_demo.definition import AA, AB, INTERLEAVED, experiments, planned
from deploy.experiment_demo.interleaving import Needed, of_ab, of_interleaving, show

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def test_every_user_is_in_the_ab_or_in_the_interleaving_and_all_are_in_the_aa() -> None:
    versions = {"popularity": "1", "pyramid_mixer": "2"}
    snapshot = snapshot_of(experiments(versions, NOW, NOW + timedelta(days=1), interleaves=True))
    assert not unserved(snapshot.config)
    units = [f"simulated-{number:05d}" for number in range(2_000)]
    decisions = [snapshot.decide(unit, {}, int(NOW.timestamp() * 1000)) for unit in units]
    found = [{layer.experiment for layer in one.layers} for one in decisions]
    for key in (AB, INTERLEAVED):
        members = sum(key in one for one in found)
        assert members == planned(key, units, interleaves=True)
        assert 800 < members < 1_200
    assert all(len(one & {AB, INTERLEAVED}) == 1 and AA in one for one in found)
    assert planned(AB, units, interleaves=False) == planned(AA, units, interleaves=True) == 2_000


def test_the_users_needed_are_those_of_a_power_calculation() -> None:
    mean, sd, users = 0.1, 0.5, 900
    needed = Needed("like", users, mean / (sd / users**0.5)).needed
    z = stats.norm.isf(0.025) + stats.norm.isf(0.2)
    assert needed == pytest.approx((z * sd / mean) ** 2, rel=1e-3)


def test_only_clear_differences_are_compared_and_the_factor_is_printed(tmp_path: Path) -> None:
    finding, report = tmp_path / "interleaving.json", tmp_path / "report.json"
    credits = [("finish", 0.1, 1e-9), ("valid_play", -0.1, 1e-9), ("like", 0.001, 0.8)]
    finding.write_text(json.dumps({
        "rows": [{"credit": name, "users": 1_000, "mean": mean, "error": 0.01, "p": p} for name, mean, p in credits]
    }))  # fmt: skip
    metrics = [("active_days", 0.4, 1e-6), ("finish", 0.8, 1e-9), ("dislike", 0.01, 0.9)]
    same = {"n_control": 600, "n_treatment": 400, "error": 0.1}
    rows = [{"metric": name, "estimate": {**same, "difference": mean, "p": p}} for name, mean, p in metrics]
    report.write_text(json.dumps({"rows": rows}))
    assert of_interleaving(finding) == [Needed("finish", 1_000, pytest.approx(10.0))]
    assert [one.name for one in of_ab(report)] == ["active_days", "finish"]
    console = Console(record=True, width=120)
    show(console, finding, report)
    lines = console.export_text().splitlines()
    assert any("active_days" in line and line.split()[-2:] == ["491", "6.2"] for line in lines), lines
    finding.write_text(json.dumps({"rows": []}))
    show(console, finding, report)
    assert "no clear difference in finish credit" in console.export_text()
