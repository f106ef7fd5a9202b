from __future__ import annotations

import copy
from typing import Any

import http_sf
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.experiments.assignment import snapshot_of
from contract.experiments.decision import Decision
from contract.experiments.fields import BUCKETS
from contract.experiments.parse import parse_experiments
from contract.experiments.problems import ExperimentsError
from tests.support.experiment_files import NOW_MS, example, refusals

SNAPSHOT = snapshot_of(example())
UNITS = [str(unit) for unit in range(600)]
IOS = {"platform": "ios"}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(unit=anything, attributes=st.dictionaries(st.text() | st.just("platform"), anything), now_ms=st.integers())
def test_decision_is_total_and_its_header_is_always_a_structured_field(
    unit: object, attributes: dict[str, object], now_ms: int
) -> None:
    decision = SNAPSHOT.decide(unit, attributes, now_ms)
    assert [layer.layer for layer in decision.layers] == ["rank", "blend"]
    for show_bucket in (True, False):
        header = decision.header(show_bucket)
        assert list(http_sf.parse(header.encode(), tltype="dictionary")) == ["rank", "blend"]
        assert len(header) < 2048


@given(unit=st.text(min_size=1, max_size=40), now_ms=st.integers(0, 2**45))
def test_decision_is_pure_and_an_arm_always_has_its_reason(unit: str, now_ms: int) -> None:
    decision = SNAPSHOT.decide(unit, IOS, now_ms)
    assert decision == SNAPSHOT.decide(unit, dict(IOS), now_ms) == snapshot_of(example()).decide(unit, IOS, now_ms)
    for layer in decision.layers:
        assert (layer.arm is None) == (layer.experiment is None)
        assert (layer.arm is not None) == (layer.reason in {"split", "override"})
        assert (layer.arm_bucket is not None) == (layer.reason == "split")
        assert layer.slot is None or 0 <= layer.slot < BUCKETS


def _arms(decisions: list[Decision]) -> list[str]:
    return [decision.layers[0].variant for decision in decisions]


free = st.integers(3000, 9_990).flatmap(lambda start: st.tuples(st.just(start), st.integers(start + 1, 10_000)))


@settings(max_examples=25)
@given(ramps=st.lists(st.tuples(st.integers(0, 1), free), min_size=1, max_size=6), days=st.integers(0, 40))
def test_no_legal_sequence_of_ramps_moves_a_unit_that_is_in_an_arm(
    ramps: list[tuple[int, tuple[int, int]]], days: int
) -> None:
    document = example()
    for experiment in document["layers"][0]["experiments"]:
        experiment["target"] = None
    before = snapshot_of(document)
    was = _arms([before.decide(unit, {}, NOW_MS) for unit in UNITS])
    for place, added in ramps:
        wanted = copy.deepcopy(document)
        wanted["layers"][0]["experiments"][place]["slots"].append(list(added))
        wanted["layers"][0]["experiments"][place]["end"] = f"2026-{4 + days // 30:02d}-{1 + days % 28:02d}T00:00:00Z"
        try:
            parse_experiments(wanted)
        except ExperimentsError:
            continue  # the slots belong to somebody already
        if refusals(document, wanted):
            continue  # the end would come earlier
        document, before = wanted, snapshot_of(wanted)
    now = _arms([before.decide(unit, {}, NOW_MS) for unit in UNITS])
    assert all(old in {"none", new} for old, new in zip(was, now, strict=True))


def _mutations(document: Any, place: str = "") -> list[str]:
    """Return the places of all values in a document."""
    pairs = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    found = []
    for key, value in pairs:
        path = f"{place}.{key}" if place else str(key)
        found += [path, *_mutations(value, path)]
    return found


PLACES = _mutations(example())


@settings(max_examples=2 * settings.default.max_examples)
@given(place=st.sampled_from(PLACES), value=anything)
def test_file_with_any_value_changed_is_accepted_or_refused_and_never_raises_anything_else(
    place: str, value: object
) -> None:
    try:
        accepted = snapshot_of(example(**{place.replace(".", "__"): value}))
    except ExperimentsError:
        return
    assert accepted.decide("12", IOS, NOW_MS).header()


@settings(max_examples=2 * settings.default.max_examples)
@given(place=st.sampled_from(PLACES), value=anything)
def test_edit_that_is_not_refused_moves_nobody_between_arms(place: str, value: object) -> None:
    document = example(**{place.replace(".", "__"): value})
    try:
        changed = snapshot_of(document)
    except ExperimentsError:
        return
    if refusals(example(), document):
        return
    for unit in UNITS[:100]:
        old, new = (snapshot.decide(unit, IOS, NOW_MS).layers[0] for snapshot in (SNAPSHOT, changed))
        assert "none" in {old.variant, new.variant} or old.variant == new.variant
        assert old.variant != new.variant or old.parameters.items() <= new.parameters.items()
