"""A remembered decision is the one that would be made now."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.experiments.assignment import ExperimentsSnapshot, snapshot_of
from service.experiments.decisions import Decisions
from tests.support.experiment_files import NOW_MS, example

E0 = "layers__0__experiments__0"
TURNS = [1_772_323_200_000, 1_774_828_800_000]  # when the first experiment below begins and ends
DATES = {f"{E0}__start": "2026-03-01T00:00:00Z", f"{E0}__end": "2026-03-30T00:00:00Z"}
IOS = {"all": [{"attr": "platform", "op": "eq", "value": "ios"}]}
UNITS = st.sampled_from([*map(str, range(40)), "", "\ud800", "u" * 200, 7, True, None, 1.5])
TIMES = st.sampled_from([NOW_MS, *[turn + more for turn in TURNS for more in (-1, 0, 1)]])


@pytest.fixture(scope="module")
def snapshots() -> list[ExperimentsSnapshot]:
    return [snapshot_of(example(**DATES, **{f"{E0}__target": target})) for target in (None, IOS)]


@given(st.data())
def test_a_decision_is_the_snapshot_s_whatever_was_asked_before(
    snapshots: list[ExperimentsSnapshot], data: st.DataObject
) -> None:
    decisions = Decisions(most=5)
    asked = st.tuples(st.sampled_from(snapshots), UNITS, st.sampled_from([{}, {"platform": "ios"}]), TIMES)
    for snapshot, unit, attributes, now_ms in data.draw(st.lists(asked, max_size=30)):
        assert decisions.of(snapshot, unit, attributes, now_ms) == snapshot.decide(unit, attributes, now_ms)


def test_a_unit_is_decided_once_while_nothing_changes(snapshots: list[ExperimentsSnapshot]) -> None:
    decisions = Decisions()
    first = decisions.of(snapshots[1], "u1", {}, NOW_MS)
    assert decisions.of(snapshots[1], "u1", {}, NOW_MS + 1) is first
    assert decisions.of(snapshots[1], "u1", {}, TURNS[1]) is not first


def test_a_span_without_a_change_ends_where_an_experiment_begins_or_ends(snapshots: list[ExperimentsSnapshot]) -> None:
    begins, first_end, last_end = 1_772_323_200_000, 1_774_742_400_000, TURNS[1]
    spans = [snapshots[0].steady_about(now_ms) for now_ms in (begins - 1, NOW_MS, first_end, last_end)]
    assert spans == [(-math.inf, begins), (begins, first_end), (first_end, last_end), (last_end, math.inf)]


def test_no_more_decisions_are_kept_than_there_is_room_for(snapshots: list[ExperimentsSnapshot]) -> None:
    decisions = Decisions(most=3)
    for number in range(100):
        decisions.of(snapshots[0], str(number), {}, NOW_MS)
        assert len(decisions._made) <= 3
