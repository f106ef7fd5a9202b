import json
import math

import numpy as np
import pytest

from analysis.guard.rails import RAILS, Arm, find
from analysis.guard.replays import assign, fixed_test_stops, planted, stopped_at, users
from analysis.statistics.sequence import half_width
from tests.support.sink_process import ROOT

LOOKS = [4_000 * (place + 1) // 20 for place in range(20)]
GOOD = {rail.key: Arm(5_000, 1.0, 1.0) for rail in RAILS}


def changed(key: str, mean: float) -> dict[str, Arm]:
    return GOOD | {key: GOOD[key]._replace(mean=mean)}


@pytest.mark.parametrize("rail", RAILS, ids=[rail.key for rail in RAILS])
def test_harm_is_found_in_its_direction_only_and_beyond_the_allowance(rail: object) -> None:
    assert isinstance(rail, type(RAILS[0]))
    for sign, is_harm in ((rail.harm, True), (-rail.harm, False)):
        arms = {"control": GOOD, "treatment": changed(rail.key, 1.0 + sign * (rail.allowed + 0.2))}
        harmful = [finding.rail for finding in find(arms, planned=10_000) if finding.is_harm]
        assert harmful == ([rail.key] if is_harm else [])
    allowed = {"control": GOOD, "treatment": changed(rail.key, 1.0 + rail.harm * rail.allowed)}
    assert not any(finding.is_harm for finding in find(allowed, planned=10_000))


def test_the_chance_is_shared_by_guardrails_and_treatments() -> None:
    (finding,) = find({"control": GOOD, "b": {"dislike": Arm(5_000, 1.1, 1.0)}}, planned=10_000, rails=RAILS[3:4])
    error = math.sqrt(2 / 5_000)
    assert finding.bound == pytest.approx(0.1 - half_width(error, 10_000, 10_000, 0.1))
    arms = {"control": GOOD, "b": {"dislike": Arm(5_000, 1.1, 1.0)}, "c": {"dislike": Arm(5_000, 1.1, 1.0)}}
    expected = pytest.approx(0.1 - half_width(error, 10_000, 10_000, 2 * 0.05 / 10))
    assert [finding.bound for finding in find(arms, planned=10_000)] == [expected, expected]


@pytest.mark.parametrize("variance", [1.0, 0.0])
def test_few_units_prove_nothing(variance: float) -> None:
    arm = Arm(99, 100.0, variance)
    control = {"dislike": arm._replace(mean=1.0)}
    assert not any(finding.is_harm for finding in find({"control": control, "b": {"dislike": arm}}, planned=10_000))


def test_a_treatment_that_always_fails_is_stopped_although_no_arm_has_a_variance() -> None:
    control, failing = Arm(120, 0.0, 0.0), Arm(100, 1.0, 0.0)
    [finding] = find({"control": {"errors": control}, "b": {"errors": failing}}, planned=10_000)
    assert finding.is_harm
    [finding] = find({"control": {"errors": control}, "b": {"errors": Arm(100, 0.0, 0.0)}}, planned=10_000)
    assert not finding.is_harm


def test_a_guardrail_without_data_is_left_out() -> None:
    assert [one.rail for one in find({"control": GOOD, "b": {"dislike": GOOD["dislike"]}}, planned=9)] == ["dislike"]
    assert find({"control": GOOD}, planned=9) == []
    assert find({"b": GOOD}, planned=9) == []


def test_harmless_experiments_are_rarely_stopped_although_a_test_for_one_reading_often_would() -> None:
    """The full run is `python -m benchmarks.guard`: 500 replays of 20,000 users."""
    values = users(LOOKS[-1], 1)
    arms = [assign(LOOKS[-1], f"test-{replay}") for replay in range(40)]
    assert sum(stopped_at(values, treated, LOOKS, strict=True) is not None for treated in arms) <= 2
    assert sum(fixed_test_stops(values, treated, LOOKS) for treated in arms) > 4


def test_planted_harm_is_stopped() -> None:
    values = users(LOOKS[-1], 2)
    for number, (name, harm) in enumerate({"errors": 0.03, "degraded": 0.06, "latency": 0.4, "playtime": 0.6}.items()):
        treated = assign(LOOKS[-1], f"harm-{number}")
        stop = stopped_at(planted(values, treated, {name: harm}, number), treated, LOOKS)
        assert stop is not None, name
        assert stop[1] == (name,)


def test_the_replays_measure_what_numpy_measures() -> None:
    from analysis.guard.replays import readings

    values, treated = users(500, 3), assign(500, "check")
    arm = readings(values, treated, [300, 500])[1]["treatment"]["playtime"]
    chosen = values["playtime"][treated]
    assert arm.n == treated.sum()
    assert arm.mean == pytest.approx(np.mean(chosen))
    assert arm.variance == pytest.approx(np.var(chosen, ddof=1))


def test_every_guardrail_is_on_the_page_with_its_value() -> None:
    page = (ROOT / "docs" / "guard.md").read_text(encoding="utf-8").partition("## The test")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in page.splitlines() if line[:3] == "| `"]
    documented = [(key.strip("`"), harm) for key, _, harm, _ in rows]
    assert documented == [(rail.key, "more" if rail.harm > 0 else "less") for rail in RAILS]


def test_the_committed_rates_are_those_that_the_guard_promises() -> None:
    """`python -m benchmarks.guard` writes them."""
    result = json.loads((ROOT / "benchmarks" / "results" / "guard.json").read_text(encoding="utf-8"))
    harmless = result["no effect"]
    assert harmless["replays"] == 500
    assert harmless["stopped"] <= harmless["stopped without an allowance"] <= result["alpha"]
    assert harmless["stopped by a test for one reading"] > 0.1
    assert all(planted["stopped"] > 0.9 for planted in result["planted"].values())
    assert result["planted"].keys() == {rail.key for rail in RAILS}
