"""Every step down the ladder when something fails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from contract.experiments.decision import UNDECIDED
from service.bundles.bundle import Bundle, load_bundle
from service.errors import DeadlineExceeded, InferenceFailed, NotReady, Overloaded, RankerError
from service.store.behaviours import StoredBehaviours
from tests.support.builders import TinyModel, behaviours
from tests.support.rankings import NO_RECORDS, TREATMENT, call_of, ordered, world_of

pytestmark = [pytest.mark.anyio, pytest.mark.onnx]


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (StoredBehaviours(NO_RECORDS, status="unavailable"), "store_unavailable"),
        (StoredBehaviours(NO_RECORDS, status="wrong_type"), "behaviours_corrupt"),
        (StoredBehaviours(NO_RECORDS, corrupt=2), "behaviours_corrupt"),
    ],
)
async def test_a_store_that_fails_degrades_the_answer_to_that_of_a_new_user(
    bundles: Mapping[str, Bundle], stored: StoredBehaviours, reason: str
) -> None:
    async with world_of(bundles) as world:
        new = await world.rank(["i3", "i4", "i5"])
        world.store.users["u1"] = stored
        ranking = await world.rank(["i3", "i4", "i5"])
        assert ranking.degraded == (reason,)
        assert (ranking.item_ids, ranking.scores) == (new.item_ids, new.scores)
        assert world.shown(f'ranker_degraded_total{{reason="{reason}"}} 1.0')


async def test_a_store_that_does_not_answer_is_not_waited_for(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles, read_timeout_ms=1) as world:
        world.store.open.clear()
        ranking = await world.rank(["i3", "i4"], recent=behaviours(["i1"]))
        assert ranking.degraded == ("store_unavailable",)
        assert ranking.item_ids == ordered(TREATMENT, [1], [3, 4])


async def test_an_arm_whose_bundle_is_not_there_is_served_the_default(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        del world.served["treatment"]
        ranking = await world.rank(["i3", "i4"])
        assert (ranking.model, ranking.degraded) == ("control", ("bundle_unavailable",))
        assert world.exposures.outcomes[-1].served_model == "control"


async def test_an_arm_whose_engine_is_broken_is_served_the_default(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.served["treatment"].is_healthy = False
        ranking = await world.rank(["i3", "i4"])
        assert (ranking.model, ranking.degraded) == ("control", ("bundle_unavailable",))
        assert not world.served["treatment"].rows


async def test_with_no_engine_left_the_order_is_that_of_popularity(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        for served in world.served.values():
            served.is_healthy = False
        ranking = await world.rank(["i9", "new", "i3", "i5"], limit=3)
        assert (ranking.item_ids, ranking.degraded) == (["i3", "i5", "i9"], ("popularity",))
        assert ranking.scores == [None, None, None]
        assert ranking.known == [True, True, True]
        assert world.exposures.outcomes[-1].served_model is None
        assert world.exposures.outcomes[-1].status == "degraded"


async def test_an_engine_that_breaks_under_a_request_is_answered_by_popularity(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.served["treatment"].breaks = True
        assert (await world.rank(["i9", "i3"])).degraded == ("popularity",)
        assert (await world.rank(["i9", "i3"])).degraded == ("bundle_unavailable",)


async def test_an_engine_that_is_too_slow_is_answered_by_popularity_in_time(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.served["treatment"].hangs = True
        ranking = await world.rank(["i9", "i3"], deadline=1e9)
        assert world.served["treatment"].deadlines[0] < 1e9
        assert (ranking.item_ids, ranking.degraded) == (["i3", "i9"], ("popularity",))


@pytest.mark.parametrize(("fault", "error"), [("hangs", DeadlineExceeded), ("breaks", InferenceFailed)])
async def test_popularity_can_be_switched_off(
    bundles: Mapping[str, Bundle], fault: str, error: type[RankerError]
) -> None:
    async with world_of(bundles, popularity_fallback=False) as world:
        setattr(world.served["treatment"], fault, True)
        with pytest.raises(error):
            await world.rank(["i3"])


async def test_without_engine_and_without_popularity_the_service_is_not_ready(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles, popularity_fallback=False) as world:
        for served in world.served.values():
            served.is_healthy = False
        with pytest.raises(NotReady):
            await world.rank(["i3"])


async def world_with_nan(tmp_path: Path, **fields: Any) -> dict[str, Bundle]:
    model = TinyModel(model="treatment", **fields)
    return {"treatment": load_bundle(model.write(tmp_path), max_bytes=10_000_000)}


async def test_an_item_without_a_finite_score_is_answered_like_an_unknown_one(tmp_path: Path) -> None:
    async with world_of(await world_with_nan(tmp_path, nan_candidate=7)) as world:
        ranking = await world.rank(["i9", "i7", "new", "i3", "i7"], explain=True)
        assert ranking.item_ids[2:] == ["i7", "new"]
        assert set(ranking.item_ids[:2]) == {"i9", "i3"}
        assert ranking.known == [True, True, False, False]
        assert ranking.scores[2:] == [None, None]
        assert ranking.degraded == ("unscored_items",)
        assert ranking.explanation is not None
        assert ranking.explanation.items["level"][2:] == [None, None]
        assert ranking.explanation.unknown_candidates == 1
        assert world.exposures.outcomes[-1].served_model == "treatment"
        assert world.shown('ranker_degraded_total{reason="unscored_items"} 1.0')
        assert (await world.rank(["i7", "i3"], limit=1)).item_ids == ["i3"]


async def test_where_no_score_is_finite_the_order_is_that_of_popularity(tmp_path: Path) -> None:
    async with world_of(await world_with_nan(tmp_path, nan_item=7)) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours(["i7"]))
        ranking = await world.rank(["i9", "i3", "i5"])
        assert (ranking.item_ids, ranking.degraded) == (["i3", "i5", "i9"], ("popularity",))
        assert ranking.scores == [None] * 3
        assert (await world.rank(["i9", "i3"], user_id="other")).degraded == ()


async def test_where_no_score_is_finite_and_popularity_is_off_it_is_an_error(tmp_path: Path) -> None:
    async with world_of(await world_with_nan(tmp_path, nan_candidate=7), popularity_fallback=False) as world:
        with pytest.raises(InferenceFailed):
            await world.rank(["i7"])


async def test_a_slow_bundle_is_answered_for_by_the_default(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.served["treatment"].is_slow = True
        ranking = await world.rank(["i9", "i3"])
        assert (ranking.model, ranking.degraded) == ("control", ("bundle_slow",))
        assert world.shown('ranker_degraded_total{reason="bundle_slow"} 1.0')
        assert world.ranker.is_ready
        world.served["treatment"].is_slow = False
        assert (await world.rank(["i9", "i3"])).degraded == ()


async def test_where_every_bundle_is_slow_the_arm_s_own_is_asked(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        for served in world.served.values():
            served.is_slow = True
        ranking = await world.rank(["i9", "i3"])
        assert (ranking.model, ranking.degraded) == ("treatment", ())
        world.served["treatment"].is_healthy = False  # slow is better than broken
        assert (await world.rank(["i9", "i3"])).degraded == ("bundle_unavailable",)


async def test_a_request_that_a_sound_engine_fails_on_is_told_so(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        with pytest.raises(InferenceFailed):
            await world.rank(["i3", "i13"])
        assert world.exposures.outcomes[-1].status == "error"
        assert (await world.rank(["i3"])).degraded == ()


async def test_a_full_queue_is_passed_on_as_it_is(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.served["treatment"].fault = Overloaded()
        with pytest.raises(Overloaded):
            await world.rank(["i3"])


async def test_with_no_bundle_at_all_the_service_is_not_ready(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        assert world.ranker.is_ready
        world.served.clear()
        assert not world.ranker.is_ready
        with pytest.raises(NotReady):
            await world.rank(["i3"])


async def test_before_the_first_experiment_file_the_service_is_not_ready(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.experiments.decision = UNDECIDED
        assert not world.ranker.is_ready
        with pytest.raises(NotReady):
            await world.ranker.rank(call_of(["i3"], UNDECIDED))
