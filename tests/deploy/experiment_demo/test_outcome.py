"""The comparison of a report with the planted effect, which decides the demo's exit status."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deploy.experiment_demo.feed import Totals
from deploy.experiment_demo.live import Lived
from deploy.experiment_demo.outcome import judge, show

PLANTED = {"active_days": 0.09, "playtime": 0.28}


def report(folder: Path, verdict: str = "better", **lifts: tuple[float, float, float]) -> Path:
    rows: list[dict[str, Any]] = [
        {
            "metric": name,
            "role": "primary",
            "estimate": {"lift": lift, "lift_low": low, "lift_high": high},
        }
        for name, (lift, low, high) in lifts.items()
    ]
    rows.append({"metric": "publish", "role": "secondary", "estimate": None})
    path = folder / "report.json"
    path.write_text(json.dumps({"verdict": {"kind": verdict, "sentence": "Simulated data: ..."}, "rows": rows}))
    return path


def test_a_report_that_finds_the_planted_effect_is_right(tmp_path: Path) -> None:
    path = report(tmp_path, active_days=(0.08, 0.04, 0.12), playtime=(0.3, 0.2, 0.4))
    assert judge("x", path, PLANTED).is_right


@pytest.mark.parametrize(
    ("verdict", "lift"),
    [
        ("better", (0.2, 0.15, 0.25)),  # the interval leaves the planted value out
        ("better", (0.05, -0.01, 0.11)),  # and here it does not show the sign
        ("no_difference", (0.08, 0.04, 0.12)),
        ("not_readable", (0.08, 0.04, 0.12)),
    ],
)
def test_a_report_that_misses_the_planted_effect_is_wrong(
    tmp_path: Path, verdict: str, lift: tuple[float, float, float]
) -> None:
    assert not judge("x", report(tmp_path, verdict, active_days=lift), PLANTED).is_right


@pytest.mark.parametrize(("verdict", "is_right"), [("no_difference", True), ("better", False), ("not_readable", False)])
def test_arms_that_are_alike_must_show_no_difference(tmp_path: Path, verdict: str, is_right: bool) -> None:
    path = report(tmp_path, verdict, active_days=(0.01, -0.03, 0.05))
    assert judge("x", path, None).is_right is is_right


def test_a_report_without_primary_metrics_is_wrong(tmp_path: Path) -> None:
    assert not judge("x", report(tmp_path, "no_difference"), None).is_right


def test_the_summary_says_simulated_and_warns_of_a_busy_machine(tmp_path: Path) -> None:
    outcome = judge("x", report(tmp_path, active_days=(0.08, 0.04, 0.12)), PLANTED)
    said = io.StringIO()
    console = Console(file=said, width=120)
    show(console, [outcome], Lived(PLANTED, Totals(visits=9, late_ms=100), 0), 20)
    assert "too busy" not in said.getvalue()
    assert said.getvalue().count("imulated") >= 3
    assert "+9.00%" in said.getvalue()
    show(console, [outcome], Lived(PLANTED, Totals(visits=9, late_ms=2_100), 0), 20)
    assert "too busy" in said.getvalue()
