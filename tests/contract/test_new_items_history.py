"""Behaviours on items that training never met are read by their features, through the whole ranker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.behaviours.records import item_keys
from service.bundles.bundle import Bundle, load_bundle
from service.inference.new_items import NewItem
from service.ranking.answer import Ranking
from service.ranking.stored_features import unknown_behaviours
from service.store.behaviours import StoredBehaviours
from tests.support.builders import behaviours
from tests.support.rankings import World, call_of, decision_of, world_of

pytestmark = [pytest.mark.anyio, pytest.mark.onnx, pytest.mark.usefixtures("operators_read_once")]

KNOWN = ["film-3", "film-9", "film-20"]
HISTORY = ["film-1", "new-1", "film-2", "new-2"]
FEATURES: Mapping[str, Mapping[str, object]] = {
    "new-1": {"genres": ["genre 2", "genre 4"], "year": 1995},
    "new-2": {"genres": "genre 1", "year": "2000"},
}


@pytest.fixture(scope="module")
def bundles(new_items_bundle: Path) -> dict[str, Bundle]:
    return {"fmlp": load_bundle(new_items_bundle, max_bytes=1 << 30)}


async def ranked(world: World, history: Sequence[str] = HISTORY, **fields: Any) -> Ranking:
    notes = fields.pop("notes", None)
    world.store.users["u1"] = StoredBehaviours(behaviours(list(history)), notes=notes)
    return await world.ranker.rank(call_of(KNOWN, decision_of("fmlp"), **fields))


def scores(ranking: Ranking) -> dict[str, float | None]:
    return dict(zip(ranking.item_ids, ranking.scores, strict=True))


async def test_the_state_is_that_of_the_graph_for_new_items(bundles: dict[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        found = scores(await ranked(world, features=FEATURES))
        bundle, engine = bundles["fmlp"], world.served["fmlp"].inference._engine
        assert bundle.new_items is not None
        assert engine.new_items is not None
        items = [NewItem.of(bundle.new_items.coder.codes(one).values()) for one in FEATURES.values()]
        length, first = bundle.manifest.sequence.length, bundle.manifest.item_count + 1
        indices = np.zeros((1, length), dtype=np.int64)
        indices[0, -4:] = [*bundle.items.indices(["film-1"]), first, *bundle.items.indices(["film-2"]), first + 1]
        inputs = world.served["fmlp"].inference._maker.make([world.served["fmlp"].rows[0]]).inputs.arrays
        state = engine.new_items.encode({**inputs, "items": indices}, engine.new_items.behaviours(items))
        expected = engine.score(state, bundle.items.indices(KNOWN), np.zeros(3, dtype=np.int64))["scores"]
        assert [found[item] for item in KNOWN] == pytest.approx(expected.tolist(), rel=1e-5)
        assert found != scores(await ranked(world))
        assert world.shown("ranker_new_item_behaviours_total 2.0")
        assert world.shown('ranker_unknown_items_total{kind="behaviour"} 2.0')  # of the second ranking


async def test_one_new_item_has_features_and_the_other_is_passed_over(bundles: dict[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        one = scores(await ranked(world, features={"new-1": FEATURES["new-1"]}))
        assert one == scores(await ranked(world, HISTORY[:3], features=FEATURES))


async def test_features_that_change_make_another_state_and_equal_ones_the_same(bundles: dict[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        notes: dict[Any, Any] = {}
        without = scores(await ranked(world, notes=notes))
        first = scores(await ranked(world, notes=notes, features=FEATURES))
        other = scores(await ranked(world, notes=notes, features={**FEATURES, "new-2": {"year": 1995}}))
        assert len({tuple(one.values()) for one in (without, first, other)}) == 3
        assert world.shown('ranker_state_cache_total{result="hit"} 0.0')
        assert scores(await ranked(world, notes=notes, features=FEATURES)) == first
        assert scores(await ranked(world, notes=notes)) == without
        assert world.shown('ranker_state_cache_total{result="hit"} 2.0')


async def test_swapped_features_are_not_taken_for_one_another(bundles: dict[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        swapped = {"new-1": FEATURES["new-2"], "new-2": FEATURES["new-1"]}
        assert scores(await ranked(world, features=FEATURES)) != scores(await ranked(world, features=swapped))


async def test_rows_with_and_without_new_items_are_one_batch_and_keep_their_scores(bundles: dict[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        histories = {"u1": HISTORY, "u2": ["film-1", "film-4"], "u3": ["new-2", "film-7"], "u4": ["new-1"], "u5": []}
        given: dict[str, Any] = {"u1": FEATURES, "u3": FEATURES, "u4": None}
        for user, history in histories.items():
            world.store.users[user] = StoredBehaviours(behaviours(history))

        def call(user: str) -> Any:
            return call_of(KNOWN, decision_of("fmlp"), user_id=user, request_id=user, features=given.get(user))

        apart = {}
        async with world_of(bundles) as other:
            other.store.users = world.store.users
            for user in histories:
                apart[user] = scores(await other.ranker.rank(call(user)))
        calls = [call(user) for user in histories]
        for one in calls:
            one.future = asyncio.get_running_loop().create_future()
            world.ranker.submit(one)
        for one in calls:
            await one.future
        assert world.served["fmlp"].batches == [5]
        for user, one in zip(histories, calls, strict=True):
            assert list(scores(one.answer).values()) == pytest.approx(list(apart[user].values()), rel=1e-5), user


async def test_as_many_behaviours_are_looked_up_as_the_model_reads(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["fmlp"]
    length = bundle.manifest.sequence.length
    names = [f"new-{number}" for number in range(3 * length)]
    found = unknown_behaviours(bundle, behaviours(names))
    assert list(found) == item_keys(names[-length:]).tolist()
    assert unknown_behaviours(bundle, behaviours([*names, *["film-1"] * length])) == ()
