"""From a request to an ordered list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from service.bundles.bundle import Bundle
from service.errors import DeadlineExceeded
from service.experiments.exposures import Outcome
from service.store.behaviours import StoredBehaviours
from tests.support.builders import behaviours
from tests.support.rankings import NO_RECORDS, TREATMENT, ordered, world_of

pytestmark = [pytest.mark.anyio, pytest.mark.onnx]


async def test_candidates_come_back_best_first_with_their_scores(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours(["i1", "i2"]))
        ranking = await world.rank(["i3", "i4", "i5", "i6"])
        assert ranking.item_ids == ordered(TREATMENT, [1, 2], [3, 4, 5, 6])
        expected = sorted(TREATMENT.expected([1, 2], [3, 4, 5, 6]).tolist(), reverse=True)
        assert np.allclose([score for score in ranking.scores if score is not None], expected, atol=1e-3)
        assert (ranking.model, ranking.version, ranking.degraded) == ("treatment", "1", ())
        assert ranking.known == [True] * 4
        assert set(ranking.timings) == {"store", "queue", "encode", "score", "order", "total"}


async def test_unknown_items_follow_in_request_order_without_a_score(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        ranking = await world.rank(["new-2", "i3", "new-1", "i4"])
        assert ranking.item_ids == [*ordered(TREATMENT, [], [3, 4]), "new-2", "new-1"]
        assert ranking.scores[2:] == [None, None]
        assert ranking.known == [True, True, False, False]
        assert world.shown('ranker_unknown_items_total{kind="candidate"} 2.0')


async def test_nothing_but_unknown_items_is_answered_in_request_order(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        ranking = await world.rank(["x", "z", "y"])
        assert (ranking.item_ids, ranking.degraded) == (["x", "z", "y"], ())


async def test_a_repeated_candidate_is_scored_once_and_answered_once(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        ranking = await world.rank(["i4", "i3", "i4", "new", "new", "i3"])
        assert sorted(ranking.item_ids) == ["i3", "i4", "new"]
        assert len(world.served["treatment"].rows[0].candidates) == 2


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (2, 2), (3, 3), (4, 4), (99, 4)])
async def test_a_limit_keeps_the_best(bundles: Mapping[str, Bundle], limit: int, count: int) -> None:
    async with world_of(bundles) as world:
        candidates = ["new", "i3", "i4", "i5"]
        whole = await world.rank(candidates)
        ranking = await world.rank(candidates, limit=limit)
        assert ranking.item_ids == whole.item_ids[:count]


async def test_recent_behaviours_count_for_this_request(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours(["i1"], start_ms=1))
        ranking = await world.rank(["i3", "i4", "i5"], recent=behaviours(["i9"], start_ms=9), explain=True)
        assert ranking.item_ids == ordered(TREATMENT, [1, 9], [3, 4, 5])
        assert ranking.explanation is not None
        assert (ranking.explanation.read, ranking.explanation.recent, ranking.explanation.used) == (1, 1, 2)


async def test_a_recent_behaviour_sent_twice_counts_once(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        twice = np.concatenate([behaviours(["i2", "i5"], start_ms=2)] * 2)
        alone = await world.rank(["i3"], recent=twice, explain=True)
        world.store.users["u1"] = StoredBehaviours(behaviours(["i1", "i2"], start_ms=1))
        beside_stored = await world.rank(["i3"], recent=twice, explain=True)
        assert alone.explanation is not None
        assert beside_stored.explanation is not None
        assert (alone.explanation.used, beside_stored.explanation.used) == (2, 3)


async def test_a_recent_behaviour_that_is_stored_already_counts_once(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours(["i1", "i2"], start_ms=1))
        ranking = await world.rank(["i3"], recent=behaviours(["i2", "i5"], start_ms=2), explain=True)
        assert ranking.explanation is not None
        assert (ranking.explanation.recent, ranking.explanation.used) == (1, 3)


async def test_an_explanation_says_what_was_read_and_what_the_model_says(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        stored = behaviours(["i1", "gone", "i2", "i3", "i4", "i5", "i6", "i7"])
        world.store.users["u1"] = StoredBehaviours(stored, corrupt=1)
        ranking = await world.rank(["i3", "new", "i4"], explain=True)
        explanation = ranking.explanation
        assert explanation is not None
        assert (explanation.read, explanation.corrupt, explanation.used) == (8, 1, 5)
        assert (explanation.truncated, explanation.unknown_behaviours, explanation.unknown_candidates) == (2, 1, 1)
        assert len(explanation.user["period_weights"]) == 3
        levels = [int(item[1:]) % 3 for item in ranking.item_ids[:2]]
        assert explanation.items == {"level": [*levels, None]}
        assert not explanation.state_cached
        again = await world.rank(["i3"], explain=True)
        assert again.explanation is not None
        assert again.explanation.state_cached


async def test_without_explain_there_is_none(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        assert (await world.rank(["i3"])).explanation is None


async def test_what_a_model_cannot_use_does_not_hide_what_it_can(bundles: Mapping[str, Bundle]) -> None:
    """The newest behaviours are impressions and items that the model has never seen; older ones are read then."""
    useless = np.concatenate([behaviours(["i9"] * 7, action="impression", start_ms=50), behaviours(["new"] * 7)])
    async with world_of(bundles) as world:
        world.store.users["u1"] = StoredBehaviours(useless, truncated=True)
        world.store.wholes["u1"] = StoredBehaviours(np.concatenate([behaviours(["i1", "i2"], start_ms=1), useless]))
        ranking = await world.rank(["i3", "i4", "i5"], explain=True)
        assert ranking.item_ids == ordered(TREATMENT, [1, 2], [3, 4, 5])
        assert ranking.degraded == ()
        assert ranking.explanation is not None
        assert (ranking.explanation.used, ranking.explanation.unread_behaviours) == (2, 7)
        assert ranking.explanation.unknown_behaviours == 7


@pytest.mark.parametrize(
    ("stored", "truncated"),
    [(behaviours(["i1"] * 5), True), (behaviours(["i1"] * 4), False), (NO_RECORDS, False)],
    ids=["full sequence", "nothing older", "new user"],
)
async def test_all_that_is_kept_is_read_only_where_it_can_help(
    bundles: Mapping[str, Bundle], stored: Any, truncated: bool
) -> None:
    async with world_of(bundles) as world:
        world.store.users["u1"] = StoredBehaviours(stored, truncated=truncated)
        await world.rank(["i3"])
        assert world.store.whole_reads == []


async def test_older_behaviours_that_cannot_be_read_degrade_the_answer(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours(["i1", "new"]), truncated=True)
        world.store.wholes["u1"] = StoredBehaviours(NO_RECORDS, status="unavailable")
        ranking = await world.rank(["i3", "i4", "i5"])
        assert ranking.degraded == ("store_unavailable",)
        assert ranking.item_ids == ordered(TREATMENT, [1], [3, 4, 5])


@pytest.mark.parametrize(
    ("stored", "degraded", "reason"),
    [
        (behaviours(["new", "newer"]), ("history_unknown",), "items"),
        (behaviours(["i1", "i2"], action="impression"), (), "actions"),
        (np.concatenate([behaviours(["i1"], action="impression"), behaviours(["new"])]), ("history_unknown",), "items"),
    ],
    ids=["unknown items", "impressions only", "both"],
)
async def test_a_history_of_which_nothing_could_be_used_is_said_and_counted(
    bundles: Mapping[str, Bundle], stored: Any, degraded: tuple[str, ...], reason: str
) -> None:
    async with world_of(bundles) as world:
        world.store.users["u1"] = StoredBehaviours(stored)
        ranking = await world.rank(["i3", "i4"], explain=True)
        assert ranking.degraded == degraded
        assert ranking.explanation is not None
        assert ranking.explanation.used == 0
        assert ranking.explanation.unread_behaviours + ranking.explanation.unknown_behaviours == len(stored)
        assert world.shown(f'ranker_history_unused_total{{reason="{reason}"}} 1.0')


async def test_a_new_user_and_a_used_history_are_not_counted_as_unused(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours(["new", "i1"]))
        assert (await world.rank(["i3"])).degraded == ()
        assert (await world.rank(["i3"], user_id="stranger")).degraded == ()
        assert world.shown('ranker_history_unused_total{reason="items"} 0.0')
        assert world.shown('ranker_history_unused_total{reason="actions"} 0.0')


async def test_every_attempt_of_an_assigned_unit_is_an_exposure(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        await world.rank(["i3", "i4", "new"], limit=2)
        with pytest.raises(DeadlineExceeded):
            await world.rank(["i3"], seconds=-1.0)
        assert world.exposures.outcomes == [
            Outcome("r1", 1_234, "ok", "treatment", "1", 2, 3),
            Outcome("r1", 1_234, "refused", None, None, 0, 1),
        ]


async def test_the_same_request_on_the_same_state_gives_the_same_answer(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours(["i1", "i2"]))
        candidates = [f"i{index}" for index in range(20, 0, -1) if index != 13]
        rankings = [await world.rank(candidates) for _ in range(5)]
        assert len({tuple(ranking.item_ids) for ranking in rankings}) == 1
        assert len({tuple(ranking.scores) for ranking in rankings}) == 1


async def test_stages_and_counts_are_observed_once_for_each_answer(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        await world.rank(["i3", "i4"])
        await world.rank(["i3", "i4"])
        for line in (
            'ranker_stage_duration_seconds_count{stage="total"} 2.0', "ranker_candidates_count 2.0",
            'ranker_state_cache_total{result="hit"} 1.0', 'ranker_state_cache_total{result="miss"} 1.0',
            "ranker_sequence_length_count 2.0",
        ):  # fmt: skip
            assert world.shown(line), line
