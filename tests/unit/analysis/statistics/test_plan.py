"""Users and days that a lift needs."""

from __future__ import annotations

import json

import pytest

from analysis.__main__ import main
from analysis.statistics.plan import PAPER, SPREADS, Design, Spread, mde, need, worked_example


def test_the_worked_example_needs_the_users_that_were_measured() -> None:
    per_arm = {one.metric: one.per_arm / 1e6 for one in worked_example(Design())}
    measured = {"active_days": 27.6, "playtime": 20.4, "finish": 9.9, "follow": 117}
    assert {name: per_arm[name] for name in measured} == pytest.approx(measured, rel=0.005)
    assert set(per_arm) == set(PAPER) == set(SPREADS)


def test_days_are_those_of_entering_and_one_window_more() -> None:
    found = need("playtime", 0.05, Spread(1.0, 0.0, "given"), Design(traffic=1_000))
    assert found.users == 2 * found.per_arm
    assert found.days == -(-found.users // 1_000) + 14


def test_a_team_finds_the_lift_that_its_users_were_planned_for() -> None:
    design = Design(arms=3, looks=14)
    users = need("like", 0.02, SPREADS["like"], design).users
    assert mde(users, SPREADS["like"], design) == pytest.approx(0.02, rel=1e-4)
    assert mde(10_000, Spread(0.45, 0.8, "given"), Design()) == pytest.approx(0.0107 * 2**0.5, rel=0.01)


def test_more_arms_readings_and_less_history_need_more_users() -> None:
    base = need("playtime", 0.01, SPREADS["playtime"], Design())
    assert base.per_arm < base.per_arm_without_history
    assert base.per_arm < need("playtime", 0.01, SPREADS["playtime"], Design(arms=3)).per_arm
    assert base.per_arm < need("playtime", 0.01, SPREADS["playtime"], Design(looks=14)).per_arm


def test_the_command_prints_a_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 0
    said = capsys.readouterr().out
    assert "Active days    +0.0403%" in said
    assert "rho are floors" in said
    assert main(["plan", "--json", "--lift", "0.01", "--cv", "2", "--traffic", "500"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["needs"]
    assert (found["metric"], found["cv"], found["rho"], found["source"]) == ("playtime", 2.0, 0.27, "given")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--metric", "nope"], ["--lift", "0"], ["--lift", "nan"], ["--lift", "0.01", "--cv", "-1"],
        ["--lift", "0.01", "--rho", "1"], ["--cv", "2"], ["--traffic", "0"], ["--arms", "1"], ["--looks", "0"],
        ["--window", "0"],
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert arguments[-2] in said
