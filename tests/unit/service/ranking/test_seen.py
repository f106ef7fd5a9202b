"""Candidates that the user has met: kept, moved behind the others, or left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pytest

from service.bundles.bundle import Bundle
from service.http.rank_answer import rank_body
from service.ranking.answer import Ranking
from service.store.behaviours import StoredBehaviours
from tests.support.builders import behaviours
from tests.support.rankings import TREATMENT, World, both_models, call_of, ordered, world_of

pytestmark = [pytest.mark.anyio, pytest.mark.onnx]

CANDIDATES = ["i3", "new", "i4", "i5", "i6", "met-new"]
MET = ["i4", "i6", "met-new"]


async def ranked(world: World, candidates: list[str] = CANDIDATES, met: list[str] = MET, **fields: Any) -> Ranking:
    world.store.users["u1"] = StoredBehaviours(behaviours(met))
    return await world.rank(candidates, **fields)


def history(met: list[str]) -> list[int]:
    return [int(item[1:]) for item in met if item.startswith("i")]


async def test_kept_unless_the_request_asks(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        assert (await ranked(world)).item_ids == (await ranked(world, seen="keep")).item_ids
        assert list((await ranked(world)).item_ids) == [*ordered(TREATMENT, [4, 6], [3, 4, 5, 6]), "new", "met-new"]
        assert world.shown('ranker_seen_candidates_total{seen="drop"} 0.0')


async def test_dropped_ones_are_not_in_the_answer(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        ranking, plain = await ranked(world, seen="drop"), await ranked(world)
        assert list(ranking.item_ids) == [*ordered(TREATMENT, [4, 6], [3, 5]), "new"]
        scores = dict(zip(plain.item_ids, plain.scores, strict=True))
        assert ranking.scores == [scores[item] for item in ranking.item_ids]
        assert list((await ranked(world, seen="drop", limit=1)).item_ids) == list(ranking.item_ids)[:1]
        assert world.shown('ranker_seen_candidates_total{seen="drop"} 6.0')


async def test_dropped_from_candidates_that_the_model_all_knows(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        ranking = await ranked(world, ["i3", "i4", "i5"], ["i4"], seen="drop")
        assert list(ranking.item_ids) == ordered(TREATMENT, [4], [3, 5])


async def test_all_dropped_is_an_empty_answer(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        ranking = await ranked(world, ["i4", "met-new"], seen="drop", explain=True)
        assert list(ranking.item_ids) == []
        assert orjson.loads(rank_body("r1", ranking, {}))["items"] == []


async def test_last_ones_follow_all_others_and_keep_their_scores(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        ranking, plain = await ranked(world, seen="last"), await ranked(world)
        assert list(ranking.item_ids) == [
            *ordered(TREATMENT, [4, 6], [3, 5]), "new", *ordered(TREATMENT, [4, 6], [4, 6]), "met-new"
        ]  # fmt: skip
        scores = dict(zip(plain.item_ids, plain.scores, strict=True))
        assert ranking.scores == [scores[item] for item in ranking.item_ids]
        assert list((await ranked(world, seen="last", limit=4)).item_ids) == list(ranking.item_ids)[:4]
        body = orjson.loads(rank_body("r1", ranking, {}))
        assert [one["item_id"] for one in body["items"]] == list(ranking.item_ids)
        assert [one.get("known", True) for one in body["items"]] == [True, True, False, True, True, False]
        assert world.shown('ranker_seen_candidates_total{seen="last"} 6.0')


async def test_recent_behaviours_count_as_seen(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        ranking = await ranked(world, ["i3", "i4"], [], seen="drop", recent=behaviours(["i3"]))
        assert list(ranking.item_ids) == ["i4"]


async def test_without_a_store_only_recent_ones_count(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours([]), status="unavailable")
        ranking = await world.rank(["i3", "i4"], seen="drop")
        assert sorted(ranking.item_ids) == ["i3", "i4"]
        assert ranking.degraded == ("store_unavailable",)


@pytest.mark.parametrize("seen", ["last", "drop"])
async def test_explanation_follows_the_order(bundles: Mapping[str, Bundle], seen: str) -> None:
    async with world_of(bundles) as world:
        plain = await ranked(world, explain=True)
        ranking = await ranked(world, explain=True, seen=seen)
        assert plain.explanation is not None
        assert ranking.explanation is not None
        for name, values in plain.explanation.items.items():
            own = dict(zip(plain.item_ids, values, strict=True))
            assert ranking.explanation.items[name] == [own[item] for item in ranking.item_ids]


@pytest.mark.parametrize("seen", ["last", "drop"])
async def test_both_lists_of_an_interleaved_ranking_part_them(bundles: Mapping[str, Bundle], seen: str) -> None:
    async with world_of(bundles) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours(MET))
        ranking = await world.ranker.rank(call_of(CANDIDATES, both_models(), seen=seen))
        assert sorted(ranking.item_ids[:3]) == ["i3", "i5", "new"]
        assert sorted(ranking.item_ids[3:]) == (sorted(MET) if seen == "last" else [])
        assert ranking.merged is not None
        assert len(ranking.merged.teams) == len(ranking.merged.ranks) == len(ranking.item_ids)


async def test_popularity_order_parts_them_too(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        served = world.served["treatment"]
        plain = await ranked(world, ["i3", "i4", "i5"], ["i4"])
        served.is_healthy = world.served["control"].is_healthy = False
        ranking = await ranked(world, ["i3", "i4", "i5"], ["i4"], seen="last")
        assert "popularity" in ranking.degraded
        assert ranking.item_ids[-1] == "i4"
        assert np.all([score is None for score in ranking.scores])
        assert sorted(ranking.item_ids) == sorted(plain.item_ids)
