"""Candidates without a score: last, by the prior of new items, or spread over the list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import orjson
import pytest

from contract.bundle.manifest import NewItemPrior
from contract.experiments.decision import Decision
from service.bundles.bundle import Bundle
from service.http.rank_answer import rank_body
from service.ranking.answer import Ranking
from service.ranking.cold import cold_of, merged_order, places_of
from tests.support.rankings import TREATMENT, World, call_of, decision_of, ordered, world_of

KNOWN = ["i3", "i4", "i5", "i6"]
BEST = ordered(TREATMENT, [], [3, 4, 5, 6])
PRIOR = NewItemPrior(quantile=0.75, clicks=3, shown=90)


@pytest.mark.parametrize(
    ("way", "quantile", "expected"),
    [
        ("last", 0.5, "abcdefghXY"),
        ("prior", 1.0, "XYabcdefgh"),
        ("prior", 0.75, "abXYcdefgh"),
        ("prior", 0.0, "abcdefghXY"),
        ("interleave", 0.5, "abXcdefYgh"),
        ("prior", None, "abXcdefYgh"),
    ],
)
def test_places_of_candidates_without_a_score(way: str, quantile: float | None, expected: str) -> None:
    prior = None if quantile is None else PRIOR.model_copy(update={"quantile": quantile})
    places = places_of(cold_of({"cold": way}), prior, 8, 2)
    order = merged_order(places, 8, 10)
    assert "".join("abcdefghXY"[entry] for entry in order) == expected


@pytest.mark.parametrize("way", ["last", "prior", "interleave"])
def test_every_candidate_has_one_place_for_any_numbers(way: str) -> None:
    for scored in range(9):
        for unscored in range(9):
            places = places_of(cold_of({"cold": way}), PRIOR, scored, unscored)
            order = merged_order(places, scored, scored + unscored)
            assert sorted(order.tolist()) == list(range(scored + unscored))
            assert [entry for entry in order if entry < scored] == list(range(scored))  # the others keep their order
            assert np.array_equal(merged_order(places, scored, 3), order[:3])


def test_an_arm_without_the_parameter_or_with_a_strange_value_puts_them_last() -> None:
    assert [cold_of({}), cold_of({"cold": "first"}), cold_of({"cold": 3})] == ["last"] * 3


def decision(way: str | None) -> Decision:
    other, rank = decision_of("treatment").layers
    parameters = rank.parameters if way is None else {**rank.parameters, "cold": way}
    return Decision((other, rank._replace(parameters=parameters)), "digest", "u1")


def with_prior(bundles: Mapping[str, Bundle]) -> dict[str, Bundle]:
    return {
        name: replace(bundle, manifest=bundle.manifest.model_copy(update={"new_item_prior": PRIOR}))
        for name, bundle in bundles.items()
    }


async def ranked(world: World, way: str | None, limit: int | None = None, explain: bool = False) -> Ranking:
    call = call_of(["new-2", *KNOWN, "new-1"], decision(way), limit=limit, explain=explain)
    return await world.ranker.rank(call)


@pytest.mark.anyio
@pytest.mark.onnx
@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (None, [*BEST, "new-2", "new-1"]),
        ("last", [*BEST, "new-2", "new-1"]),
        ("prior", [BEST[0], "new-2", "new-1", *BEST[1:]]),
        ("interleave", [BEST[0], "new-2", *BEST[1:3], "new-1", BEST[3]]),
    ],
)
async def test_the_arm_places_unknown_items(
    bundles: Mapping[str, Bundle], way: str | None, expected: list[str]
) -> None:
    async with world_of(with_prior(bundles)) as world:
        ranking = await ranked(world, way)
        assert list(ranking.item_ids) == expected
        assert ranking.known == [item.startswith("i") for item in expected]
        assert [score is None for score in ranking.scores] == [item.startswith("new") for item in expected]
        body = orjson.loads(rank_body("r1", ranking, {}))
        assert [one["item_id"] for one in body["items"]] == expected
        assert [one["score"] for one in body["items"]] == pytest.approx(ranking.scores)
        assert [one.get("known", True) for one in body["items"]] == ranking.known
        for limit in range(1, 7):
            cut = await ranked(world, way, limit)
            assert list(cut.item_ids) == expected[:limit]
            assert cut.scores == ranking.scores[:limit]


@pytest.mark.anyio
@pytest.mark.onnx
async def test_explanations_stay_beside_their_items(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(with_prior(bundles)) as world:
        last, placed = await ranked(world, "last", explain=True), await ranked(world, "prior", explain=True)
        assert last.explanation is not None
        assert placed.explanation is not None
        for name, values in last.explanation.items.items():
            by_item = dict(zip(last.item_ids, values, strict=True))
            assert placed.explanation.items[name] == [by_item[item] for item in placed.item_ids]


@pytest.mark.anyio
@pytest.mark.onnx
async def test_without_unknown_items_the_parameter_changes_nothing(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(with_prior(bundles)) as world:
        usual = await world.ranker.rank(call_of(KNOWN, decision(None)))
        placed = await world.ranker.rank(call_of(KNOWN, decision("prior")))
        assert rank_body("r", usual, {}) == rank_body("r", placed, {})
