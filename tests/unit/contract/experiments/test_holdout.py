"""The holdout in exposures: held-out units, and as many others beside them; nothing else about assignment changes."""

from __future__ import annotations

from collections import Counter

import pytest

from contract.experiments.assignment import snapshot_of
from contract.experiments.buckets import bucket
from contract.experiments.decision import Decision
from contract.experiments.definition import Holdout
from contract.experiments.tables import HELD_OUT, HOLDOUT, MEASURED
from tests.support.experiment_files import NOW_MS, example

IOS = {"platform": "ios"}
SALT = "global-2026h1"
UNITS = [f"u{number}" for number in range(4_000)]


def decide(unit: str, buckets: object = ((0, 500),), **edits: object) -> Decision:
    document = example(holdout={"salt": SALT, "buckets": [list(one) for one in buckets]}, **edits)  # type: ignore[attr-defined]
    return snapshot_of(document).decide(unit, IOS, NOW_MS)


@pytest.mark.parametrize(
    ("buckets", "measured"),
    [
        ([(0, 3)], [3, 4, 5]),
        ([(5, 7), (8, 9)], [9, 10, 11]),
        ([(8, 9), (5, 7)], [9, 10, 11]),
        ([(9_998, 10_000)], [0, 1]),
        ([(0, 2), (9_998, 10_000)], [2, 3, 4, 5]),
        ([(0, 9_999)], [9_999]),
        ([(0, 10_000)], []),
        ([], []),
    ],
)
def test_the_measured_buckets_are_as_many_as_the_held_out_ones_and_next_to_them(
    buckets: list[tuple[int, int]], measured: list[int]
) -> None:
    found = Holdout(salt="s", buckets=tuple(buckets)).measured
    assert [place for start, stop in found for place in range(start, stop)] == measured


def test_each_unit_of_the_comparison_has_the_arm_of_its_bucket_and_all_others_have_none() -> None:
    snapshot = snapshot_of(example(holdout={"salt": SALT, "buckets": [[0, 500]]}))
    arms = Counter[str]()
    for unit in UNITS:
        place, holdout = bucket(SALT, "holdout", unit), snapshot.decide(unit, IOS, NOW_MS).holdout
        if place >= 1_000:
            assert holdout is None
            continue
        assert holdout is not None
        assert (holdout.arm, holdout.slot) == (HELD_OUT if place < 500 else MEASURED, place)
        assert (holdout.layer, holdout.experiment, holdout.reason) == (HOLDOUT, HOLDOUT, "holdout")
        assert (holdout.salt, holdout.forced, dict(holdout.parameters)) == (SALT, False, {})
        arms[str(holdout.arm)] += 1
    assert abs(arms[HELD_OUT] - arms[MEASURED]) < 4 * (2 * 200) ** 0.5  # 4 standard errors of a difference


def test_the_layers_of_a_measured_unit_are_those_of_a_file_without_a_holdout() -> None:
    without = snapshot_of(example(holdout=None))
    snapshot = snapshot_of(example(holdout={"salt": SALT, "buckets": [[0, 500]]}))
    for unit in UNITS[:1_000]:
        decision, natural = snapshot.decide(unit, IOS, NOW_MS), without.decide(unit, IOS, NOW_MS)
        assert natural.holdout is None
        if decision.holdout is not None and decision.holdout.arm == HELD_OUT:
            assert {layer.reason for layer in decision.layers} == {"holdout"}
            assert decision.assigned == (decision.holdout,)
        else:
            assert decision.layers == natural.layers
        assert HOLDOUT not in decision.header()


def test_a_forced_unit_of_the_comparison_is_forced_there_too() -> None:
    units = {unit: {"rank": "pyramid-vs-mgnm:treatment"} for unit in UNITS[:300]}
    snapshot = snapshot_of(example(holdout={"salt": SALT, "buckets": [[0, 500]]}, overrides__units=units))
    forced = [snapshot.decide(unit, IOS, NOW_MS).holdout for unit in units]
    assert {one.forced for one in forced if one is not None} == {True}
    assert {one.arm for one in forced if one is not None} == {HELD_OUT, MEASURED}


def test_without_a_valid_unit_or_with_experiments_disabled_there_is_no_comparison() -> None:
    assert snapshot_of(example()).decide(None, IOS, NOW_MS).holdout is None
    assert decide("u1", enabled=False).holdout is None
