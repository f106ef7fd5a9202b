"""From a request to an ordered list, and every step down the ladder when something fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.assignment import UNDECIDED, Decision, LayerDecision
from contract.behaviours import RECORD, Records
from service.bundles.bundle import Bundle, load_bundle
from service.errors import CALLER_GONE, DeadlineExceeded, InferenceFailed, NotReady, Overloaded, RankerError
from service.experiments.exposures import Outcome
from service.flow.batcher import Answer
from service.inference.engine import OnnxEngine
from service.inference.scorer import Inference, RankRow, ScoredRow
from service.inference.state_cache import StateCache
from service.metrics import Metrics
from service.ranking.ranker import Ranker, Ranking, RankLimits, RankQuery
from service.store.behaviours import StoredBehaviours
from tests.support.builders import TinyModel, behaviours

pytestmark = [pytest.mark.anyio, pytest.mark.onnx]

CONTROL, TREATMENT = TinyModel(model="control"), TinyModel(model="treatment", offset=1_000, poison_candidate=13)
NO_RECORDS: Records = np.zeros(0, dtype=RECORD)


class Store:
    """Stored behaviours in memory; waits while its gate is closed."""

    def __init__(self) -> None:
        self.users: dict[str, StoredBehaviours] = {}
        self.wholes: dict[str, StoredBehaviours] = {}
        self.reads: list[list[str]] = []
        self.whole_reads: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def read(self, user_ids: Sequence[str]) -> list[StoredBehaviours]:
        self.reads.append(list(user_ids))
        await self.open.wait()
        return [self.users.get(user_id, StoredBehaviours(NO_RECORDS)) for user_id in user_ids]

    async def read_whole(self, user_ids: Sequence[str]) -> list[StoredBehaviours]:
        self.whole_reads.append(list(user_ids))
        return [self.wholes[user_id] for user_id in user_ids]


class Served:
    """A real bundle, scored at once; or the fault it is told to show."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.inference = Inference(bundle, OnnxEngine(bundle, "cpu", threads=1), StateCache(100))
        self.is_healthy, self.is_slow = True, False
        self.fault: RankerError | None = None
        self.breaks = False
        self.hangs = False
        self.rows: list[RankRow] = []
        self.deadlines: list[float] = []

    async def score(self, row: RankRow, deadline: float) -> Answer[ScoredRow]:
        self.rows.append(row)
        self.deadlines.append(deadline)
        if self.hangs:
            raise DeadlineExceeded  # as a batcher does at the deadline it was given, which leaves time to answer
        if self.breaks:
            self.is_healthy = False
            raise InferenceFailed
        if self.fault is not None:
            raise self.fault
        [result] = self.inference.run([row])
        if isinstance(result, Exception):
            raise result
        return Answer(result, 0.001)


class Experiments:
    """One layer whose default is the control."""

    def __init__(self) -> None:
        self.decision = decision_of("control", reason="not_ranked")

    def undecided(self) -> Decision:
        return self.decision


class Exposures:
    """Notes what is recorded."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def record(self, decision: Decision, outcome: Outcome) -> int:
        self.outcomes.append(outcome)
        return 1


class World:
    """A ranker and everything around it."""

    def __init__(self, served: Mapping[str, Served], limits: RankLimits) -> None:
        self.store, self.experiments, self.exposures, self.metrics = Store(), Experiments(), Exposures(), Metrics()
        self.served = dict(served)
        self.ranker = Ranker(
            self.store, self, self.experiments, self.exposures, self.metrics, limits, now_ms=lambda: 1_234
        )

    def find(self, model: str, version: str) -> Served | None:
        return self.served.get(model) if version == "1" else None

    async def rank(self, candidates: Sequence[str], arm: str = "treatment", **fields: Any) -> Ranking:
        return await self.ranker.rank(query(candidates, **fields), decision_of(arm))

    def shown(self, line: str) -> bool:
        return line in self.metrics.render().decode().splitlines()


def decision_of(model: str, reason: Any = "split") -> Decision:
    other = LayerDecision("look", None, None, "unallocated", 1, None, False, {"colour": "blue"}, "")
    parameters = {"model": model, "version": "1"}
    return Decision((other, LayerDecision("rank", "e", model, reason, 1, 2, False, parameters, "s")), "digest", "u1")


def query(candidates: Sequence[str], **fields: Any) -> RankQuery:
    seconds = fields.pop("seconds", 10.0)
    given = {
        "request_id": "r1", "user_id": "u1", "limit": None, "recent": NO_RECORDS, "request_time_ms": 0,
        "explain": False, "deadline": asyncio.get_running_loop().time() + seconds, **fields,
    }  # fmt: skip
    return RankQuery(candidates=candidates, **given)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    root: Path = tmp_path_factory.mktemp("bundles")
    return {model.model: load_bundle(model.write(root), max_bytes=10_000_000) for model in (CONTROL, TREATMENT)}


@asynccontextmanager
async def world_of(bundles: Mapping[str, Bundle], **limits: Any) -> AsyncIterator[World]:
    world = World({name: Served(bundle) for name, bundle in bundles.items()}, RankLimits(**limits))
    world.ranker.start()
    try:
        yield world
    finally:
        world.store.open.set()
        await world.ranker.close()


def ordered(model: TinyModel, history: Sequence[int], candidates: Sequence[int]) -> list[str]:
    scores = model.expected(history, candidates)
    return [f"i{candidates[place]}" for place in np.argsort(-scores, kind="stable")]


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


async def test_requests_that_wait_together_share_one_read(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles, store_reads=1, store_seconds=10.0) as world:
        world.store.open.clear()
        tasks = [asyncio.create_task(world.rank(["i1"], user_id=f"u{number}")) for number in range(6)]
        for _ in range(20):
            await asyncio.sleep(0)
        world.store.open.set()
        await asyncio.gather(*tasks)
        assert sum(len(read) for read in world.store.reads) == 6
        assert len(world.store.reads) <= 2


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
    async with world_of(bundles, store_seconds=0.001) as world:
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
            await world.ranker.rank(query(["i3"]), UNDECIDED)


async def test_one_ranking_too_many_is_refused_at_once(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles, max_inflight=2, store_seconds=10.0) as world:
        world.store.open.clear()
        tasks = [asyncio.create_task(world.rank(["i3"])) for _ in range(2)]
        for _ in range(5):
            await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await world.rank(["i3"])
        assert caught.value.retry_after is not None
        world.store.open.set()
        assert len(await asyncio.gather(*tasks)) == 2
        assert (await world.rank(["i3"])).item_ids == ["i3"]


@pytest.mark.parametrize(("why", "status"), [((CALLER_GONE,), "gone"), ((), "error")])
async def test_callers_that_hang_up_give_their_permits_back(
    bundles: Mapping[str, Bundle], why: tuple[str, ...], status: str
) -> None:
    async with world_of(bundles, max_inflight=1, store_seconds=10.0) as world:
        world.store.open.clear()
        task = asyncio.create_task(world.rank(["i3"]))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel(*why)
        await asyncio.gather(task, return_exceptions=True)
        world.store.open.set()
        assert (await world.rank(["i3"])).item_ids == ["i3"]
        assert [outcome.status for outcome in world.exposures.outcomes] == [status, "ok"]


async def test_a_deadline_that_has_passed_is_refused_without_work(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        with pytest.raises(DeadlineExceeded):
            await world.rank(["i3"], seconds=0.0)
        assert world.store.reads == []
        assert world.served["treatment"].rows == []


async def test_every_attempt_of_an_assigned_unit_is_an_exposure(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        await world.rank(["i3", "i4", "new"], limit=2)
        with pytest.raises(DeadlineExceeded):
            await world.rank(["i3"], seconds=-1.0)
        assert world.exposures.outcomes == [
            Outcome("r1", 1_234, "ok", "treatment", "1", 2, 3),
            Outcome("r1", 1_234, "error", None, None, 0, 1),
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
