"""Candidates that came with features are scored beside those that the model knows, through the whole ranker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from service.bundles.bundle import Bundle, load_bundle
from service.http.rank_answer import rank_body
from service.inference.new_items import MAX_KEPT, NewItem
from service.ranking.answer import Ranking
from service.store.behaviours import StoredBehaviours
from tests.support.builders import behaviours
from tests.support.rankings import World, call_of, decision_of, world_of

pytestmark = [pytest.mark.anyio, pytest.mark.onnx, pytest.mark.usefixtures("operators_read_once")]

KNOWN = ["film-3", "film-9", "film-20"]
FEATURES: Mapping[str, Mapping[str, object]] = {
    "new-1": {"genres": ["genre 2", "genre 4"], "year": 1995},
    "new-2": {"genres": "genre 1", "year": "2000", "colour": "red"},
    "film-9": {"year": 1991},
}
CANDIDATES = ["new-1", "film-3", "new-3", "film-9", "new-2", "film-20"]


@pytest.fixture(scope="module")
def bundles(new_items_bundle: Path) -> dict[str, Bundle]:
    return {"fmlp": load_bundle(new_items_bundle, max_bytes=1 << 30)}


async def ranked(world: World, candidates: list[str], **fields: Any) -> Ranking:
    world.store.users["u1"] = StoredBehaviours(behaviours(["film-1", "film-2"]))
    return await world.ranker.rank(call_of(candidates, decision_of("fmlp"), **fields))


async def test_a_new_item_with_features_has_a_score_and_its_place(bundles: dict[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        plain, ranking = await ranked(world, KNOWN), await ranked(world, CANDIDATES, features=FEATURES)
        scores = dict(zip(ranking.item_ids, ranking.scores, strict=True))
        known = dict(zip(ranking.item_ids, ranking.known, strict=True))
        assert sorted(ranking.item_ids) == sorted(CANDIDATES)
        assert known == {**dict.fromkeys(KNOWN, True), "new-1": "features", "new-2": "features", "new-3": False}
        assert ranking.item_ids[-1] == "new-3"
        assert {item: scores[item] for item in KNOWN} == dict(zip(plain.item_ids, plain.scores, strict=True))
        numbers = [score for score in ranking.scores if score is not None]
        assert numbers == sorted(numbers, reverse=True)
        assert len(set(numbers)) == 5
        body = orjson.loads(rank_body("r1", ranking, {}))
        assert [one.get("known", True) for one in body["items"]] == list(ranking.known)
        assert [one["score"] for one in body["items"]] == pytest.approx(ranking.scores)
        assert world.shown("ranker_new_items_total 2.0")
        assert world.shown("ranker_item_features_refused_total 1.0")


async def test_its_score_is_that_of_the_graphs(bundles: dict[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        ranking = await ranked(world, ["new-1"], features=FEATURES)
        bundle, engine = bundles["fmlp"], world.served["fmlp"].inference._engine
        assert bundle.new_items is not None
        assert engine.new_items is not None
        item = NewItem.of(bundle.new_items.coder.codes(FEATURES["new-1"]).values())
        row = world.served["fmlp"].rows[0]
        inputs = world.served["fmlp"].inference._maker.make([row]).inputs.arrays
        state = engine.encode(inputs)
        expected = engine.new_items.score(state, engine.new_items.vectors([item]), np.zeros(1, dtype=np.int64))[
            "scores"
        ]
        assert ranking.scores == pytest.approx(expected.tolist())


async def test_features_of_known_items_and_of_other_items_change_nothing(bundles: dict[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        plain = await ranked(world, [*KNOWN, "new-3"])
        given = await ranked(world, [*KNOWN, "new-3"], features={"film-9": {"year": 1991}, "other": {"year": 1992}})
        assert rank_body("r", plain, {}) == rank_body("r", given, {})


async def test_limit_and_explanation_follow_the_same_order(bundles: dict[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        whole = await ranked(world, CANDIDATES, features=FEATURES, explain=True)
        assert whole.explanation is not None
        for limit in range(1, 7):
            cut = await ranked(world, CANDIDATES, features=FEATURES, limit=limit)
            assert (cut.item_ids, cut.scores, cut.known) == (
                whole.item_ids[:limit], whole.scores[:limit], whole.known[:limit]
            )  # fmt: skip


async def test_other_requests_of_a_batch_are_not_affected(bundles: dict[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        by_itself = await ranked(world, KNOWN)
        calls = [
            call_of(CANDIDATES, decision_of("fmlp"), features=FEATURES, request_id="a"),
            call_of(KNOWN, decision_of("fmlp"), request_id="b"),
            call_of(["new-2"], decision_of("fmlp"), features=FEATURES, request_id="c", user_id="u2"),
        ]
        for call in calls:
            call.future = asyncio.get_running_loop().create_future()
            world.ranker.submit(call)
        for call in calls:
            await call.future
        assert world.served["fmlp"].batches[-1] == 3
        assert calls[1].answer is not None
        assert (calls[1].answer.item_ids, calls[1].answer.scores) == (by_itself.item_ids, by_itself.scores)
        assert calls[2].answer is not None
        assert calls[2].answer.known == ["features"]


async def test_an_item_is_described_once_and_few_are_kept(bundles: dict[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        graphs = world.served["fmlp"].inference._engine.new_items
        assert graphs is not None
        runs = []
        describe = graphs.describe
        graphs.describe = lambda codes: runs.append(1) or describe(codes)  # type: ignore[method-assign,func-returns-value]
        first = await ranked(world, CANDIDATES, features=FEATURES)
        assert (await ranked(world, CANDIDATES, features=FEATURES)).scores == first.scores
        assert len(runs) == 1
        row = next(iter(graphs._rows.values()))
        graphs._rows |= {bytes([0, *divmod(place, 256)]): row for place in range(MAX_KEPT)}
        assert (await ranked(world, CANDIDATES, features=FEATURES)).scores == first.scores
        assert len(graphs._rows) <= MAX_KEPT


async def test_a_model_that_fails_leaves_the_order_of_popularity(bundles: dict[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.served["fmlp"].breaks = True
        ranking = await ranked(world, CANDIDATES, features=FEATURES)
        assert ranking.degraded[-1] == "popularity"
        assert list(ranking.item_ids[3:]) == ["new-1", "new-3", "new-2"]
        assert ranking.known[3:] == [False] * 3
