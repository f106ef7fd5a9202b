"""A shadow is offered a ranking after the answer, and only if a model has scored it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.experiments.shadows import ShadowBundle
from service.bundles.bundle import Bundle, load_bundle
from service.errors import InferenceFailed
from service.http.rank_lane import LaneCall
from service.ranking.answer import Ranking
from service.ranking.call import AwaitedCall
from service.store.behaviours import StoredBehaviours
from tests.support.builders import TinyModel, behaviours
from tests.support.rankings import World, call_of, decision_of, world_of

pytestmark = [pytest.mark.anyio, pytest.mark.onnx]

CONTROL = TinyModel(model="control")
TREATMENT = TinyModel(model="treatment", nan_candidate=3, poison_candidate=13)
SHADOW = ShadowBundle("other", "2", 1.0)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    root: Path = tmp_path_factory.mktemp("bundles")
    return {model.model: load_bundle(model.write(root), max_bytes=10_000_000) for model in (CONTROL, TREATMENT)}


def shadowed(candidates: list[str], arm: str = "treatment", **fields: object) -> AwaitedCall:
    return call_of(candidates, decision_of(arm)._replace(shadow=SHADOW), **fields)


async def rank(world: World, candidates: list[str], **fields: object) -> Ranking:
    return await world.ranker.rank(shadowed(candidates, **fields))


async def test_a_shadow_gets_all_scores_of_an_answered_ranking_and_the_behaviours_of_it(
    two: Mapping[str, Bundle],
) -> None:
    async with world_of(two) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours(["i1", "i2"]))
        answer = await rank(world, ["i2", "new", "i3", "i1"], limit=1, request_id="r9", request_time_ms=77)
        assert answer.item_ids == ["i1"]
        [(shadow, request_id, ranked)] = world.shadows.offered
        assert (shadow, request_id, ranked.served) == (SHADOW, "r9", "treatment@1")
        # the unknown item has no score, and that of i3 is not a number
        assert [ranked.item_ids[place] for place in ranked.places] == ["i2", "i1"]
        np.testing.assert_allclose(ranked.scores, TREATMENT.expected([1, 2], [2, 1]), rtol=1e-5)
        assert (len(ranked.records), ranked.request_time_ms) == (2, 77)
        assert [(one.status, one.answered) for one in world.exposures.outcomes] == [("degraded", 1)]


async def test_the_answer_leaves_before_the_shadow_is_asked(two: Mapping[str, Bundle]) -> None:
    class Watched(AwaitedCall):
        offers_before: int

        def finished(self) -> None:
            self.offers_before = len(world.shadows.offered)
            super().finished()

    async with world_of(two) as world:
        call = Watched("r1", "u1", ["i1"], decision_of("control")._replace(shadow=SHADOW), deadline=1e9)
        await world.ranker.rank(call)
        assert (call.offers_before, len(world.shadows.offered)) == (0, 1)


async def test_a_ranking_of_the_short_way_is_offered_although_it_lets_go_of_its_answer(
    two: Mapping[str, Bundle],
) -> None:
    class Lane:
        def answer(self, call: LaneCall) -> None:
            answered.set_result(call.answer)

    answered: asyncio.Future[Ranking | None] = asyncio.get_running_loop().create_future()
    decision = decision_of("control")._replace(shadow=SHADOW)
    async with world_of(two) as world:
        given: Any = (Lane(), None, None)  # what it needs only to write its answer
        world.ranker.submit(LaneCall(*given, "r1", "u1", ["i2", "new", "i1"], decision, deadline=1e9))
        answer = await answered
        assert answer is not None
        [(_, request_id, ranked)] = world.shadows.offered
        assert (request_id, [ranked.item_ids[place] for place in ranked.places]) == ("r1", ["i2", "i1"])


async def test_a_fault_of_the_shadow_changes_nothing(two: Mapping[str, Bundle]) -> None:
    async with world_of(two) as world:
        plain = await world.rank(["i1", "i2"])
        world.shadows.fault = ZeroDivisionError("unforeseen")
        assert (await rank(world, ["i1", "i2"])).item_ids == plain.item_ids


async def test_what_no_model_has_scored_and_arms_without_a_shadow_are_not_offered(two: Mapping[str, Bundle]) -> None:
    async with world_of(two) as world:
        await world.rank(["i1"])
        with pytest.raises(InferenceFailed):
            await rank(world, ["i13"])
        world.served["treatment"].hangs = True
        assert (await rank(world, ["i1"])).degraded == ("popularity",)
        assert world.shadows.offered == []


async def test_the_default_that_answers_for_an_arm_is_the_served_bundle(two: Mapping[str, Bundle]) -> None:
    async with world_of(two) as world:
        world.served["treatment"].is_healthy = False
        await rank(world, ["i1"])
        assert [ranked.served for _, _, ranked in world.shadows.offered] == ["control@1"]
