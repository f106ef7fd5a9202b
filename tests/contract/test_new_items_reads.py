"""The first ranking of a stored item waits for its features: together with others, once, and never too long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from contract.behaviours.records import item_keys
from service.bundles.bundle import Bundle, load_bundle
from service.ranking.answer import Ranking
from service.store.behaviours import StoredBehaviours
from tests.support.builders import behaviours
from tests.support.rankings import NO_RECORDS, World, call_of, decision_of, world_of

pytestmark = [pytest.mark.anyio, pytest.mark.onnx, pytest.mark.usefixtures("operators_read_once")]

STORED: Mapping[str, Mapping[str, object]] = {"new-1": {"year": 1995}, "new-2": {"genres": "genre 1"}}


class Items:
    """Stored features that this process has not read."""

    def __init__(self) -> None:
        self.reads: list[set[int]] = []
        self.known: set[int] = set()
        self.open = asyncio.Event()
        self.open.set()

    def missing(self, keys: Iterable[int]) -> list[int]:
        return [key for key in keys if key not in self.known]

    async def read(self, keys: Iterable[int]) -> None:
        self.reads.append(set(keys))
        await self.open.wait()
        self.known |= self.reads[-1]

    def find(self, item_ids: Sequence[str]) -> dict[str, Mapping[str, object]]:
        return {one: STORED[one] for one in item_ids if one in STORED}

    def keys_of(self, item_ids: Sequence[str]) -> list[int]:
        return list(item_keys(item_ids).tolist())

    def by_key(self, keys: Iterable[int]) -> dict[int, Mapping[str, object]]:
        by_key = dict(zip(item_keys(STORED).tolist(), STORED.values(), strict=True))
        return {key: by_key[key] for key in keys if key in self.known and key in by_key}


@pytest.fixture(scope="module")
def bundles(new_items_bundle: Path) -> dict[str, Bundle]:
    return {"fmlp": load_bundle(new_items_bundle, max_bytes=1 << 30)}


async def ranked(world: World, *candidates: str, **fields: Any) -> Ranking:
    return await world.ranker.rank(call_of(candidates, decision_of("fmlp"), **fields))


def keys(*item_ids: str) -> set[int]:
    return set(item_keys(item_ids).tolist())


async def test_a_first_ranking_has_the_score_and_the_second_does_not_read(bundles: dict[str, Bundle]) -> None:
    items = Items()
    async with world_of(bundles, items=items) as world:
        first = await ranked(world, "film-3", "new-1", "new-3")
        assert dict(zip(first.item_ids, first.known, strict=True)) == {
            "film-3": True, "new-1": "features", "new-3": False
        }  # fmt: skip
        assert (await ranked(world, "film-3", "new-1", "new-3")).scores == first.scores
        assert items.reads == [keys("new-1", "new-3")]


async def test_behaviours_on_new_items_are_read_with_the_candidates(bundles: dict[str, Bundle]) -> None:
    items = Items()
    async with world_of(bundles, items=items) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours(["film-1", "new-2"]))
        await ranked(world, "film-3", "new-1")
        assert items.reads == [keys("new-1", "new-2")]
        assert world.shown("ranker_new_item_behaviours_total 1.0")


async def test_rankings_that_wait_together_share_a_read(bundles: dict[str, Bundle]) -> None:
    items = Items()
    async with world_of(bundles, items=items) as world:
        calls = [call_of(["film-3", f"new-{number}"], decision_of("fmlp")) for number in (1, 2, 4)]
        for call in calls:
            call.future = asyncio.get_running_loop().create_future()
            world.ranker.submit(call)
        for call in calls:
            await call.future
        assert items.reads == [keys("new-1", "new-2", "new-4")]
        assert world.served["fmlp"].batches == [3]


async def test_rankings_of_known_items_do_not_wait(bundles: dict[str, Bundle]) -> None:
    items = Items()
    items.open.clear()
    async with world_of(bundles, items=items) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours(["film-1", "film-2"]))
        assert not (await ranked(world, "film-3", "film-9")).degraded
        assert items.reads == []


async def test_a_read_that_takes_too_long_leaves_the_item_without_a_score(bundles: dict[str, Bundle]) -> None:
    items = Items()
    items.open.clear()
    async with world_of(bundles, items=items, read_timeout_ms=5) as world:
        ranking = await ranked(world, "new-1", "film-3", seconds=100.0)
        assert (list(ranking.item_ids), list(ranking.known)) == (["film-3", "new-1"], [True, False])
        assert len(items.reads) == 1
        items.open.set()


async def test_without_the_store_of_behaviours_a_ranking_does_not_wait(bundles: dict[str, Bundle]) -> None:
    items = Items()
    async with world_of(bundles, items=items) as world:
        world.store.users["u1"] = StoredBehaviours(NO_RECORDS, status="unavailable")
        ranking = await ranked(world, "new-1", "film-3")
        assert list(ranking.degraded) == ["store_unavailable"]
        assert items.reads == []
