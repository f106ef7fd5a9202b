"""Health gates: known examples, and a fault for each."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.statistics.estimates import Sample
from analysis.verdict import gates
from analysis.verdict.gates import sample_ratio_p

HALVES = {"control": 5_000, "treatment": 5_000}


def test_microsofts_example_of_a_sample_ratio_mismatch() -> None:
    units = {"control": 821_588, "treatment": 815_482}
    assert sample_ratio_p(units, HALVES) == pytest.approx(1.8e-6, rel=0.02)
    found = gates.sample_ratio(units, units, HALVES)
    assert found.state == "block"
    assert "821,588" in found.finding


def test_an_arm_without_a_share_adds_no_degree_of_freedom() -> None:
    units = {"control": 5_000, "treatment": 5_150, "off": 0}
    assert sample_ratio_p(units, {**HALVES, "off": 0}) == pytest.approx(0.137, abs=0.001)
    assert sample_ratio_p(units, {**HALVES, "off": 0}) == sample_ratio_p(units, HALVES)


def test_shares_of_three_arms_are_those_of_the_file_and_not_thirds() -> None:
    shares = {"control": 3_334, "k30": 3_333, "k50": 3_333}
    exact = {arm: share * 10_000 for arm, share in shares.items()}
    assert sample_ratio_p(exact, shares) == pytest.approx(1)


@pytest.mark.parametrize(("loss", "state"), [(0.02, "block"), (0.0, "pass")])
def test_a_loss_of_two_percent_in_one_arm_is_seen_with_a_million_users(loss: float, state: str) -> None:
    units = {"control": 500_000, "treatment": int(500_000 * (1 - loss))}
    assert gates.sample_ratio(units, units, HALVES).state == state


def test_analysed_units_are_judged_too() -> None:
    exposed = {"control": 10_000, "treatment": 10_000}
    assert gates.sample_ratio(exposed, {"control": 9_000, "treatment": 8_000}, HALVES).state == "block"


def test_without_shares_the_ratio_is_not_known() -> None:
    assert gates.sample_ratio(HALVES, HALVES, None).state == "unknown"


def test_one_bad_day_is_found_and_many_good_ones_are_no_alarm() -> None:
    rng = np.random.default_rng(1)
    days = {
        f"day {day}": dict(zip(HALVES, rng.multinomial(5_000, [0.5, 0.5]).tolist(), strict=True)) for day in range(28)
    }
    assert gates.sample_ratio_within("day", days, HALVES).state == "pass"
    found = gates.sample_ratio_within("day", {**days, "day 9": {"control": 2_700, "treatment": 2_300}}, HALVES)
    assert found.state == "block"
    assert "day 9" in found.finding


@pytest.mark.parametrize("groups", [None, {}, {"day 0": {"control": 3, "treatment": 1}}])
def test_groups_that_are_missing_or_small_are_not_known(groups: dict[str, dict[str, int]] | None) -> None:
    assert gates.sample_ratio_within("day", groups, HALVES).state == "unknown"


def _samples(shift: float) -> dict[str, dict[str, Sample]]:
    rng = np.random.default_rng(2)
    return {
        metric: {
            "control": Sample(rng.lognormal(0, 1, 5_000)),
            "treatment": Sample(rng.lognormal(0, 1, 5_000) * (1 + shift)),
        }
        for metric in ("playtime", "like")
    }


@pytest.mark.parametrize(("shift", "state"), [(0.0, "pass"), (0.2, "block")])
def test_arms_that_differed_before_the_experiment_are_not_comparable(shift: float, state: str) -> None:
    assert gates.before(_samples(shift), "control").state == state


def test_without_history_the_time_before_is_not_known() -> None:
    assert gates.before({}, "control").state == "unknown"


@pytest.mark.parametrize(("in_two", "state"), [(0, "pass"), (1, "warn"), (12, "block")])
def test_units_in_two_arms_are_counted(in_two: int, state: str) -> None:
    assert gates.one_arm_each(in_two, 100_000).state == state


@pytest.mark.parametrize(
    ("salts", "planned", "misplaced", "state"),
    [
        (["a"], "a", 0, "pass"),
        (["a", "b"], "a", 0, "block"),  # two experiments under one key
        (["a"], "b", 0, "block"),  # another file
        (["a"], "a", 1, "block"),
        (["a"], None, None, "unknown"),
    ],
)
def test_exposures_belong_to_the_experiment_of_the_file(
    salts: list[str], planned: str | None, misplaced: int | None, state: str
) -> None:
    assert gates.assignment(salts, planned, misplaced).state == state


def test_an_arm_that_is_not_planned_blocks() -> None:
    found = gates.assignment(["a"], "a", 0, ["extra"])
    assert found.state == "block"
    assert "extra" in found.finding


@pytest.mark.parametrize(
    ("lost", "state"),
    [
        ({"control": 0, "treatment": 0}, "pass"),
        ({"control": 40, "treatment": 45}, "pass"),
        ({"control": 400, "treatment": 405}, "warn"),  # much, but alike
        ({"control": 40, "treatment": 145}, "block"),
    ],
)
def test_exposures_that_one_arm_loses_more_often(lost: dict[str, int], state: str) -> None:
    assert gates.exposure_loss({"control": 10_000, "treatment": 10_000}, lost).state == state


def test_without_a_ranking_log_losses_and_outcomes_are_not_known() -> None:
    assert gates.exposure_loss(None, None).state == "unknown"
    assert gates.outcomes(None, "control").state == "unknown"


@pytest.mark.parametrize(
    ("control", "treatment", "state"),
    [(0.001, 0.001, "pass"), (0.001, 0.01, "warn"), (0.001, 0.2, "block"), (0.0, 0.0, "pass")],
)
def test_rankings_that_were_not_ok(control: float, treatment: float, state: str) -> None:
    rng = np.random.default_rng(3)
    asked = np.full(5_000, 20.0)
    arms = {"control": control, "treatment": treatment}
    requests = {arm: Sample(rng.binomial(20, share, 5_000).astype(float), asked) for arm, share in arms.items()}
    assert gates.outcomes(requests, "control").state == state
