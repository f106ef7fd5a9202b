"""A ramp: the share of an experiment grows by steps in the file, and users only move in."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from contract.experiments.assignment import ExperimentsSnapshot, snapshot_of
from contract.experiments.history import State, experiment_file
from contract.experiments.problems import ExperimentsError
from contract.experiments.ramps import SLACK_MS, propose
from service.experiments.decisions import Decisions

UNITS = [f"user-{number}" for number in range(4_000)]
RAMP = [
    {"at": "2026-03-02T00:00:00Z", "share": 0.01},
    {"at": "2026-03-03T00:00:00Z", "share": 0.1},
    {"at": "2026-03-04T00:00:00Z", "share": 1.0},
]


def at(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp() * 1000)


TIMES = [at("2026-03-01 12:00"), at("2026-03-02 00:00"), at("2026-03-03 00:00"), at("2026-03-04 00:00")]


def document(ramp: Any = RAMP, **changes: object) -> dict[str, Any]:
    arms = [
        {"key": "control", "buckets": [[0, 5000]]},
        {"key": "canary", "buckets": [[5000, 10000]], "params": {"p": "new"}},
    ]
    experiment = {
        "key": "canary-8", "kind": "ab", "salt": "canary-8", "status": "running", "start": "2026-03-01T00:00:00Z",
        "end": "2026-03-20T00:00:00Z", "owner": "me", "slots": [[0, 8000]], "arms": arms, "ramp": ramp, **changes,
    }  # fmt: skip
    layer = {"key": "l", "salt": "l", "defaults": {"p": "old"}, "experiments": [experiment]}
    return {"schema": 1, "revision": "r", "layers": [layer]}


def arms_at(snapshot: ExperimentsSnapshot, now_ms: int) -> dict[str, str | None]:
    return {unit: snapshot.decide(unit, {}, now_ms).layers[0].arm for unit in UNITS}


def test_users_only_move_in_and_keep_the_arm_that_they_have_without_a_ramp() -> None:
    snapshot, whole = snapshot_of(document()), arms_at(snapshot_of(document(ramp=[])), TIMES[0])
    inside: list[set[str]] = []
    for now_ms in TIMES:
        found = {unit: arm for unit, arm in arms_at(snapshot, now_ms).items() if arm is not None}
        assert all(whole[unit] == arm for unit, arm in found.items())
        inside.append(set(found))
    assert all(one <= other for one, other in pairwise(inside))
    shares = [len(one) / (0.8 * len(UNITS)) for one in inside]
    assert shares == pytest.approx([0, 0.01, 0.1, 1.0], abs=0.02)
    canaries = [unit for unit in inside[2] if whole[unit] == "canary"]
    assert 0.4 < len(canaries) / len(inside[2]) < 0.6  # the ramp's hash is not that of the arms


def test_a_user_that_the_ramp_has_not_reached_gets_the_defaults() -> None:
    decision = snapshot_of(document(slots=[[0, 10_000]])).decide(UNITS[0], {}, TIMES[0]).layers[0]
    assert (decision.experiment, decision.parameters, decision.reason) == (None, {"p": "old"}, "inactive")


def test_two_experiments_begin_with_other_users() -> None:
    first, second = (
        {unit for unit, arm in arms_at(snapshot_of(document(salt=salt)), TIMES[2]).items() if arm is not None}
        for salt in ("canary-8", "canary-9")
    )
    assert len(first & second) < 0.2 * len(first)


def test_decisions_that_are_remembered_change_at_each_step() -> None:
    snapshot, remembered = snapshot_of(document()), Decisions()
    for now_ms in (*TIMES, TIMES[1]):
        for unit in UNITS[:300]:
            assert remembered.of(snapshot, unit, {}, now_ms) == snapshot.decide(unit, {}, now_ms)


def state_of(ramp: Any = RAMP) -> State:
    state = propose(None, experiment_file(document(ramp)), at("2026-03-01 00:00")).state
    assert state is not None
    return state


def edited(*shares: tuple[str, float]) -> list[dict[str, Any]]:
    return [{"at": f"2026-03-{day}:00:00Z", "share": share} for day, share in shares]


@pytest.mark.parametrize(
    ("ramp", "is_allowed"),
    [
        (RAMP, True),
        ([], True),  # all at once
        (RAMP[:2], True),  # held at the second step
        (edited(("02T00", 0.5)), True),  # faster
        ([*RAMP[:2], {"at": "2026-03-15T00:00:00Z", "share": 0.2}], True),  # slower from here on
        (RAMP[:1], False),  # back to the first step
        (RAMP[1:2], True),  # what is over need not be told
        (edited(("02T00", 0.05)), False),
        (edited(("05T00", 1.0)), False),  # not yet begun
    ],
)
def test_the_share_of_a_running_ramp_can_only_grow(ramp: Any, is_allowed: bool) -> None:
    now_ms = at("2026-03-03 12:00")
    problems = propose(state_of(), experiment_file(document(ramp)), now_ms).problems
    assert (not problems) is is_allowed
    assert all("the share of a ramp can only grow" in problem.text for problem in problems)


def test_a_step_that_a_fast_clock_has_taken_cannot_be_taken_back() -> None:
    file = experiment_file(document(RAMP[:1]))
    step = TIMES[2]
    assert propose(state_of(), file, step - SLACK_MS - 1).state is not None
    assert propose(state_of(), file, step - SLACK_MS).problems


def test_a_running_experiment_gets_no_ramp_and_stops_at_any_share() -> None:
    now_ms = TIMES[2]
    assert propose(state_of([]), experiment_file(document(RAMP)), now_ms).problems
    assert propose(state_of(), experiment_file(document(RAMP[:1], status="stopped")), now_ms).state is not None


@pytest.mark.parametrize(
    "ramp",
    [
        [{"at": "2026-03-02T00:00:00Z"}],
        [{"at": "2026-03-02", "share": 0.1}],
        edited(("02T00", 0.0)), edited(("02T00", 1.1)),
        edited(("03T00", 0.1), ("02T00", 0.2)), edited(("02T00", 0.2), ("03T00", 0.1)),
        edited(("02T00", 0.2), ("03T00", 0.2)), edited(("02T00", 0.20001), ("03T00", 0.20002)),
        edited(("25T00", 1.0)),
        [{"at": "2026-02-27T00:00:00Z", "share": 1.0}],
    ],
)  # fmt: skip
def test_a_ramp_that_does_not_grow_inside_of_its_experiment_is_refused(ramp: Any) -> None:
    with pytest.raises(ExperimentsError):
        experiment_file(copy.deepcopy(document(ramp)))
