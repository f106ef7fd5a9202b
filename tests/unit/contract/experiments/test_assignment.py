from __future__ import annotations

import math

import pytest

from contract.experiments.assignment import ExperimentsSnapshot, snapshot_of
from contract.experiments.decision import NO_SNAPSHOT_HEADER, UNDECIDED
from tests.support.experiment_files import NOW_MS, example

E0 = "layers__0__experiments__0"
START_MS, END_MS = 1_772_323_200_000, 1_774_742_400_000
IOS = {"platform": "ios"}


def reason(
    unit: object = "12", now_ms: int = NOW_MS, attributes: dict[str, object] | None = None, **edits: object
) -> str:
    return (
        snapshot_of(example(**edits)).decide(unit, IOS if attributes is None else attributes, now_ms).layers[0].reason
    )


def matches(condition: dict[str, object], attributes: dict[str, object]) -> bool:
    return reason(attributes=attributes, **{f"{E0}__target": {"all": [condition]}}) == "split"


def test_parameters_are_the_defaults_overlaid_by_the_arms() -> None:
    decision = snapshot_of(example()).decide("12", IOS, NOW_MS)
    assert decision.layers[0].parameters == {"model": "pyramid_mixer", "version": "12", "top_k": 20}
    assert decision.parameters == {"model": "pyramid_mixer", "version": "12", "top_k": 20, "diversity": 0.0}
    assert decision.variant == decision.layers[0].variant == "pyramid-vs-mgnm:treatment"


@pytest.mark.parametrize("unit", ["1", None, "255"])
def test_unit_in_no_arm_is_served_the_defaults(unit: str | None) -> None:
    decision = snapshot_of(example()).decide(unit, IOS, NOW_MS)
    assert decision.parameters == {"model": "mgnm", "version": "7", "top_k": 20, "diversity": 0.0}
    assert decision.variant == "none"


def test_switch_turns_every_layer_off() -> None:
    decision = snapshot_of(example(enabled=False)).decide("qa-0001", IOS, NOW_MS)
    assert decision.header() == "rank=none;r=disabled, blend=none;r=disabled"


@pytest.mark.parametrize(
    ("now_ms", "expected"),
    [(START_MS - 1, "inactive"), (START_MS, "split"), (END_MS - 1, "split"), (END_MS, "inactive")],
)
def test_experiment_assigns_between_its_dates_only(now_ms: int, expected: str) -> None:
    assert reason(now_ms=now_ms) == expected


@pytest.mark.parametrize("status", ["draft", "stopped"])
def test_experiment_that_does_not_run_keeps_its_slots(status: str) -> None:
    assert reason(**{f"{E0}__status": status}) == "inactive"


def test_slots_of_a_stopped_experiment_go_to_the_one_that_asks_for_them() -> None:
    edits = {f"{E0}__status": "stopped", "layers__0__experiments__1__slots": [[1000, 3000]]}
    snapshot = snapshot_of(example(**edits))
    assert snapshot.decide("12", IOS, NOW_MS).layers[0].experiment == "mgnm-topk"
    assert snapshot.decide("user-000123", IOS, NOW_MS).layers[0].reason == "inactive"


@pytest.mark.parametrize(
    ("condition", "attributes", "expected"),
    [
        ({"attr": "a", "op": "eq", "value": "x"}, {"a": "x"}, True),
        ({"attr": "a", "op": "eq", "value": "x"}, {"a": "X"}, False),
        ({"attr": "a", "op": "eq", "value": 1}, {"a": 1.0}, True),
        ({"attr": "a", "op": "eq", "value": 1}, {"a": True}, False),
        ({"attr": "a", "op": "eq", "value": True}, {"a": 1}, False),
        ({"attr": "a", "op": "eq", "value": 1}, {"a": "1"}, False),
        ({"attr": "a", "op": "ne", "value": "x"}, {"a": "y"}, True),
        ({"attr": "a", "op": "ne", "value": "x"}, {"a": "x"}, False),
        ({"attr": "a", "op": "ne", "value": "x"}, {}, False),
        ({"attr": "a", "op": "ne", "value": "x"}, {"a": 1}, False),
        ({"attr": "a", "op": "in", "value": ["x", 2]}, {"a": 2}, True),
        ({"attr": "a", "op": "in", "value": ["x", 2]}, {"a": "2"}, False),
        ({"attr": "a", "op": "not_in", "value": ["x"]}, {"a": "y"}, True),
        ({"attr": "a", "op": "not_in", "value": ["x"]}, {}, False),
        ({"attr": "a", "op": "lt", "value": 3}, {"a": 2.5}, True),
        ({"attr": "a", "op": "lt", "value": 3}, {"a": 3}, False),
        ({"attr": "a", "op": "lte", "value": 3}, {"a": 3}, True),
        ({"attr": "a", "op": "gt", "value": 3}, {"a": 10**400}, True),
        ({"attr": "a", "op": "gte", "value": 3}, {"a": math.nan}, False),
        ({"attr": "a", "op": "gt", "value": 3}, {"a": "4"}, False),
        ({"attr": "a", "op": "gt", "value": 0}, {"a": True}, False),
        ({"attr": "a", "op": "eq", "value": "x"}, {"a": ["x"]}, False),
        ({"attr": "a", "op": "eq", "value": "x"}, {"a": None}, False),
    ],
)  # fmt: skip
def test_condition_holds_for_values_of_its_own_type_only(
    condition: dict[str, object], attributes: dict[str, object], expected: bool
) -> None:
    assert matches(condition, attributes) is expected


def test_all_conditions_of_a_target_must_hold() -> None:
    target = {"all": [{"attr": "a", "op": "eq", "value": 1}, {"attr": "b", "op": "eq", "value": 2}]}
    edits = {f"{E0}__target": target}
    assert reason(attributes={"a": 1, "b": 2}, **edits) == "split"
    assert reason(attributes={"a": 1, "b": 3}, **edits) == "not_targeted"


def test_override_goes_before_holdout_dates_and_target_and_is_forced() -> None:
    edits = {"overrides__units": {"255": {"rank": "mgnm-topk:k50"}}}
    rank = snapshot_of(example(**edits)).decide("255", {}, 0).layers[0]
    assert (rank.variant, rank.reason, rank.forced, rank.arm_bucket) == ("mgnm-topk:k50", "override", True, None)
    assert rank.parameters["top_k"] == 50


def test_override_of_one_layer_leaves_the_others() -> None:
    decision = snapshot_of(example()).decide("qa-0001", IOS, NOW_MS)
    assert [layer.reason for layer in decision.layers] == ["override", "unallocated"]


def test_forced_arm_goes_before_the_files_override() -> None:
    snapshot = snapshot_of(example())
    assert snapshot.decide("qa-0001", IOS, NOW_MS, {"rank": "mgnm-topk:k30"}).variant == "mgnm-topk:k30"
    assert snapshot.decide("12", IOS, NOW_MS, {"rank": "unknown:arm", "else": "x"}).layers[0].reason == "split"


def test_override_of_a_stopped_experiment_is_no_reason_to_refuse_the_stop() -> None:
    rank = snapshot_of(example(**{f"{E0}__status": "stopped"})).decide("qa-0001", IOS, NOW_MS).layers[0]
    assert (rank.reason, rank.forced) == ("unallocated", False)


def test_parameters_are_resolved_when_the_snapshot_is_made_and_not_at_each_decision() -> None:
    calls: list[object] = []

    def resolve(parameters: dict[str, str | bool | int | float]) -> dict[str, str | bool | int | float]:
        calls.append(parameters)
        return {**parameters, "version": "resolved"}

    document = example()
    snapshot = ExperimentsSnapshot(snapshot_of(document).config, "digest", resolve)
    made = len(calls)
    assert snapshot.decide("12", IOS, NOW_MS).parameters["version"] == "resolved"
    assert snapshot.decide("1", IOS, NOW_MS).parameters["version"] == "resolved"
    assert len(calls) == made


def test_before_any_file_the_header_says_so_and_names_no_layer() -> None:
    assert UNDECIDED.header() == NO_SNAPSHOT_HEADER == "none;r=error"
    assert (UNDECIDED.parameters, UNDECIDED.variant, UNDECIDED.unit) == ({}, "none", None)
