"""Rules on any candidates: their order does not matter, neutral rules change nothing, and the formula is the docs'."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.bundles.bundle import Bundle, load_bundle
from service.ranking.rules.applied import Ruled
from tests.support.builders import TinyModel
from tests.support.rules import NOW_MS, applied, moved, order_of, slow_diversity, with_items

pytestmark = pytest.mark.onnx

AUTHORS = ("ann", "ben", "cem")
ITEMS = [f"i{number}" for number in range(12)]
NEUTRAL: list[dict[str, Any]] = [
    {"diversity": {"by": "author", "decay": 1}},
    {"boost": {"feature": "author", "value": "ann", "factor": 1}},
    {"name": "flat", "diversity": {"by": "author", "decay": 0.3, "floor": 1}},
    {"age_limit": {"hours": 1_000_000}},
]


@functools.cache
def tiny() -> Bundle:
    folder = Path(tempfile.mkdtemp())
    return load_bundle(TinyModel(model="tiny", items=3).write(folder), max_bytes=10_000_000)


facts = st.fixed_dictionaries(
    {"author": st.lists(st.sampled_from(AUTHORS), max_size=2, unique=True), "first_seen": st.integers(1, NOW_MS)}
)
worlds = st.lists(facts, min_size=len(ITEMS), max_size=len(ITEMS)).map(
    lambda entries: with_items(tiny(), dict(zip(ITEMS, entries, strict=True)))
)
numbers = st.floats(-50, 50, width=32)
candidates = st.lists(st.tuples(st.sampled_from(ITEMS), numbers), min_size=1, max_size=12, unique_by=lambda one: one[0])
shares = st.floats(0.01, 1)
rules = st.lists(
    st.one_of(
        st.builds(lambda decay, floor: {"diversity": {"by": "author", "decay": decay, "floor": floor}}, shares, shares),
        st.builds(
            lambda value, factor: {"boost": {"feature": "author", "value": value, "factor": factor}},
            st.sampled_from(AUTHORS), st.floats(0.01, 100),
        ),
        st.builds(lambda hours: {"age_limit": {"hours": hours}}, st.floats(0.1, 300)),
    ),
    min_size=1, max_size=4,
).map(lambda found: [{"name": f"r{number}", **rule} for number, rule in enumerate(found)])  # fmt: skip


def ruled(world: Bundle, wanted: list[dict[str, Any]], chosen: list[tuple[str, float]], linear: bool) -> Ruled:
    return applied(world, wanted, [item for item, _ in chosen], [score for _, score in chosen], is_linear=linear)


@given(worlds, candidates, st.booleans())
def test_neutral_rules_touch_nothing(world: Bundle, chosen: list[tuple[str, float]], linear: bool) -> None:
    result = ruled(world, NEUTRAL, chosen, linear)
    assert result.after.tolist() == result.before.tolist()
    assert moved(result) == {}
    assert not result.is_late.any()


@given(worlds, rules, candidates, st.booleans(), st.data())
def test_the_order_of_the_request_decides_only_ties(
    world: Bundle, wanted: list[dict[str, Any]], chosen: list[tuple[str, float]], linear: bool, data: st.DataObject
) -> None:
    for number in range(len(wanted) + 1):  # of equal scores, also between two rules, the order of the request decides
        steps = ruled(world, wanted[:number], chosen, linear).after.tolist()
        assume(len(set(steps)) == len(steps))
    one = ruled(world, wanted, chosen, linear)
    other = ruled(world, wanted, data.draw(st.permutations(chosen)), linear)
    assert order_of(one) == order_of(other)
    assert moved(one) == moved(other)
    assert _scores(one) == _scores(other)


@given(worlds, candidates, shares, st.floats(0, 1))
def test_diversity_is_the_formula_item_by_item(
    world: Bundle, chosen: list[tuple[str, float]], decay: float, floor: float
) -> None:
    result = ruled(world, [{"diversity": {"by": "author", "decay": decay, "floor": floor}}], chosen, False)
    groups = [world.catalogue[item]["author"] for item, _ in chosen]
    np.testing.assert_allclose(result.after, slow_diversity(groups, result.before, decay, floor), rtol=1e-5, atol=1e-4)


@given(worlds, candidates, st.floats(0.01, 100), st.booleans())
def test_a_boost_keeps_the_order_among_raised_items_and_among_the_others(
    world: Bundle, chosen: list[tuple[str, float]], factor: float, linear: bool
) -> None:
    result = ruled(world, [{"boost": {"feature": "author", "value": "ann", "factor": factor}}], chosen, linear)
    is_raised = np.array(["ann" in world.catalogue[item]["author"] for item, _ in chosen])
    for part in (is_raised, ~is_raised):
        before, after = result.before[part].astype(np.float64), result.after[part].astype(np.float64)
        better = before[:, None] > before[None, :]
        assert (after[:, None] >= after[None, :])[better].all()
    assert result.after[~is_raised].tolist() == result.before[~is_raised].tolist()
    assert ((result.after >= result.before) if factor >= 1 else (result.after <= result.before)).all()


@given(worlds, rules, candidates, st.booleans())
def test_every_candidate_stays_and_old_ones_come_last(
    world: Bundle, wanted: list[dict[str, Any]], chosen: list[tuple[str, float]], linear: bool
) -> None:
    result = ruled(world, wanted, chosen, linear)
    assert np.isfinite(result.after).all()
    assert sorted(order_of(result)) == sorted(item for item, _ in chosen)
    limits = [rule["age_limit"]["hours"] for rule in wanted if "age_limit" in rule]
    is_late = [
        any(NOW_MS - world.catalogue[item]["first_seen"] > hours * 3_600_000 for hours in limits)
        for item in order_of(result)
    ]
    assert is_late == sorted(is_late)


def _scores(result: Ruled) -> dict[str, float]:
    return dict(zip(result.candidates.item_ids, result.after.tolist(), strict=True))
