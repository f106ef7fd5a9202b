"""Calls that go through the stages together: each ends once, and none by another's fault."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.bundles.bundle import Bundle
from service.errors import CALLER_GONE, DeadlineExceeded, InferenceFailed, NotReady, Overloaded
from service.ranking import filling, ordering
from service.ranking import ranker as ranker_module
from service.ranking.call import RankCall
from service.store.behaviours import StoredBehaviours
from tests.support.builders import behaviours
from tests.support.fakes import BrokenLog
from tests.support.rankings import TREATMENT, World, decision_of, ordered, world_of
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.onnx]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The service runs on uvloop, whose clock and timers are its own."""
    return "asyncio", {"use_uvloop": request.param}


class Call(RankCall):
    """A call that notes how it ends."""

    endings = 0
    fault: Exception | None = None

    def finished(self) -> None:
        self.endings += 1
        if self.fault is not None:
            raise self.fault


class Log:
    """Takes what is logged."""

    def exception(self, event: str, **_: object) -> None:
        """Take a line."""


def submitted(world: World, *users: str, **fields: Any) -> list[Call]:
    fields.setdefault("deadline", asyncio.get_running_loop().time() + 60)
    calls = [Call(f"r-{user}", user, ["i3", "i4"], decision_of("treatment"), **fields) for user in users]
    for call in calls:
        world.ranker.submit(call)
    return calls


async def ended(calls: Sequence[Call]) -> None:
    await until(lambda: all(call.endings for call in calls))


async def test_requests_of_one_pass_of_the_event_loop_share_one_read_and_one_run_per_bundle(
    bundles: Mapping[str, Bundle],
) -> None:
    async with world_of(bundles) as world:
        users = [f"u{number}" for number in range(6)]
        arms = ["treatment", "control", "treatment"] * 2
        rankings = await asyncio.gather(
            *(world.rank(["i1", "i2"], arm, user_id=user) for user, arm in zip(users, arms, strict=True))
        )
        assert [ranking.model for ranking in rankings] == arms
        assert world.store.reads == [users]
        assert (world.served["treatment"].batches, world.served["control"].batches) == ([4], [2])


async def test_requests_that_wait_together_share_one_read(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles, store_reads=1) as world:
        world.store.open.clear()
        tasks = [asyncio.create_task(world.rank(["i1"]))]
        await until(lambda: len(world.store.reads) == 1)
        for number in range(6):
            tasks.append(asyncio.create_task(world.rank(["i1"], user_id=f"v{number}")))
            await asyncio.sleep(0)
        world.store.open.set()
        await asyncio.gather(*tasks)
        assert world.store.reads == [["u1"], [f"v{number}" for number in range(6)]]
        assert world.served["treatment"].batches == [1, 6]


async def test_a_slow_read_does_not_hold_up_those_who_come_later(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        world.store.open.clear()
        slow = asyncio.create_task(world.rank(["i1"], user_id="slow"))
        await until(lambda: world.store.reads == [["slow"]])
        world.store.is_slow = lambda users: "slow" in users
        assert (await world.rank(["i3"])).degraded == ()
        assert not slow.done()
        world.store.open.set()
        assert (await slow).degraded == ()


async def test_more_reads_than_may_wait_are_refused_at_once(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles, max_inflight=2, store_reads=1) as world:
        world.store.open.clear()
        tasks = [asyncio.create_task(world.rank(["i3"]))]
        await until(lambda: len(world.store.reads) == 1)
        tasks += [asyncio.create_task(world.rank(["i3"])) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await world.rank(["i3"])
        assert caught.value.retry_after is not None
        world.store.open.set()
        assert len(await asyncio.gather(*tasks)) == 3
        assert (await world.rank(["i3"])).item_ids == ["i3"]


@pytest.mark.parametrize(("why", "status"), [((CALLER_GONE,), "gone"), ((), "error")])
async def test_callers_that_hang_up_make_room_for_others(
    bundles: Mapping[str, Bundle], why: tuple[str, ...], status: str
) -> None:
    async with world_of(bundles, max_inflight=1, store_reads=1) as world:
        world.store.open.clear()
        first = asyncio.create_task(world.rank(["i3"]))
        await until(lambda: len(world.store.reads) == 1)
        waiting = asyncio.create_task(world.rank(["i3"]))
        await asyncio.sleep(0.001)
        waiting.cancel(*why)
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        third = asyncio.create_task(world.rank(["i3"]))
        await asyncio.sleep(0.001)
        world.store.open.set()
        assert [ranking.item_ids for ranking in await asyncio.gather(first, third)] == [["i3"]] * 2
        assert [outcome.status for outcome in world.exposures.outcomes] == [status, "ok", "ok"]


async def test_a_deadline_that_has_passed_is_refused_without_work(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        with pytest.raises(DeadlineExceeded):
            await world.rank(["i3"], seconds=0.0)
        assert world.store.reads == []
        assert world.served["treatment"].rows == []


async def test_a_call_ends_once_with_its_answer_or_its_error(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        [good] = submitted(world, "u1")
        [late] = submitted(world, "u2", deadline=0.0)
        await ended([good, late])
        assert good.answer is not None
        assert good.answer.item_ids == ordered(TREATMENT, [], [3, 4])
        assert (late.answer, type(late.error)) == (None, DeadlineExceeded)
        assert (good.endings, late.endings) == (1, 1)
        assert {outcome.request_id: outcome.status for outcome in world.exposures.outcomes} == {
            "r-u1": "ok", "r-u2": "refused",
        }  # fmt: skip


@pytest.mark.parametrize("stage", ["before the first stage", "in the store's queue", "while the store is read"])
async def test_a_call_that_is_abandoned_ends_there_and_once(bundles: Mapping[str, Bundle], stage: str) -> None:
    async with world_of(bundles, store_reads=1) as world:
        world.store.open.clear()
        calls = submitted(world, "first") if stage == "in the store's queue" else []
        await until(lambda: len(world.store.reads) == len(calls))
        [gone, other] = submitted(world, "gone", "other")
        if stage == "while the store is read":
            await until(lambda: world.store.reads == [["gone", "other"]])
        elif stage == "in the store's queue":
            await asyncio.sleep(0.001)
        gone.abandon()
        gone.abandon()
        assert gone.endings == 1
        world.store.open.set()
        await ended([*calls, other])
        assert other.answer is not None
        assert (gone.answer, gone.error, gone.endings) == (None, None, 1)
        assert sum(world.served["treatment"].batches) == len(calls) + 1
        statuses = [outcome.status for outcome in world.exposures.outcomes if outcome.request_id == "r-gone"]
        assert statuses == ["gone"]


async def test_a_call_that_is_abandoned_after_its_answer_has_been_answered(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        [call] = submitted(world, "u1")
        await ended([call])
        call.abandon()
        assert (call.endings, [outcome.status for outcome in world.exposures.outcomes]) == (1, ["ok"])


@pytest.mark.parametrize(
    ("module", "work"),
    [
        (ranker_module, "candidates_of"),
        (ranker_module, "fill_the_sequences"),
        (filling, "not_stored"),
        (ordering, "ranking_of"),
    ],
    ids=["candidates_of", "fill_the_sequences", "not_stored", "ranking_of"],
)
@pytest.mark.parametrize("log", [Log(), BrokenLog()], ids=["", "and a log that fails"])
async def test_an_unforeseen_error_in_a_stage_ends_its_own_call_and_no_other(
    bundles: Mapping[str, Bundle], monkeypatch: pytest.MonkeyPatch, module: ModuleType, work: str, log: Any
) -> None:
    real, failed = getattr(module, work), list[bool]()

    def faulty(*arguments: Any, **options: Any) -> Any:
        if not failed:
            failed.append(True)
            raise ZeroDivisionError("unforeseen")
        return real(*arguments, **options)

    monkeypatch.setattr(module, work, faulty)
    monkeypatch.setattr(ranker_module, "_log", log)
    async with world_of(bundles) as world:
        users = ["u1", "u2", "u3"]
        stored = StoredBehaviours(behaviours(["i1"]), truncated=True)
        world.store.users = world.store.wholes = dict.fromkeys(users, stored)
        calls = submitted(world, *users)
        await ended(calls)
        assert type(calls[0].error) is ZeroDivisionError
        assert [call.answer is not None for call in calls] == [False, True, True]
        assert [call.endings for call in calls] == [1, 1, 1]
        assert sorted(outcome.status for outcome in world.exposures.outcomes) == ["error", "ok", "ok"]


async def test_an_unforeseen_error_of_the_store_or_the_model_is_every_call_s_own(bundles: Mapping[str, Bundle]) -> None:
    with capture_logs() as lines:
        async with world_of(bundles) as world:
            await check_unforeseen_errors(world)
    assert [line["event"] for line in lines].count("ranking_failed") == 4


async def check_unforeseen_errors(world: World) -> None:
    world.store.fault = ZeroDivisionError("unforeseen")
    calls = submitted(world, "u1", "u2")
    await ended(calls)
    world.store.fault = None
    world.served["treatment"].fault = ZeroDivisionError("unforeseen")
    calls += submitted(world, "u3", "u4")
    await ended(calls)
    assert [(type(call.error), call.endings) for call in calls] == [(ZeroDivisionError, 1)] * 4
    world.served["treatment"].fault = None
    assert (await world.rank(["i3"])).degraded == ()


@pytest.mark.parametrize("work", ["record", "finished"])
async def test_a_fault_at_the_end_of_a_call_ends_no_other(
    bundles: Mapping[str, Bundle], monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    monkeypatch.setattr(ranker_module, "_log", BrokenLog())
    async with world_of(bundles) as world:
        late = submitted(world, "u0", deadline=0.0)  # ends in the first stage, before the others go on
        calls = [*late, *submitted(world, "u1", "u2", "u3")]
        if work == "finished":
            calls[0].fault = calls[1].fault = ZeroDivisionError("unforeseen")
        else:
            world.exposures.faults = {"r-u0", "r-u1"}
        await ended(calls)
        assert [call.endings for call in calls] == [1] * 4
        assert [call.answer is not None for call in calls] == [False, True, True, True]
        assert len(world.exposures.outcomes) == (4 if work == "finished" else 2)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # uvloop does not show its timers
async def test_while_idle_there_is_no_timer(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles) as world:

        def timers() -> list[asyncio.TimerHandle]:
            scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
            return [timer for timer in scheduled if not timer.cancelled()]

        before = len(timers())
        world.store.open.clear()
        calls = submitted(world, "u1", "u2")
        await until(lambda: len(world.store.reads) == 1)
        calls += submitted(world, "u3")
        await asyncio.sleep(0.005)
        calls[0].abandon()
        assert len(timers()) > before
        world.store.open.set()
        await ended(calls)
        await asyncio.sleep(0.005)
        assert len(timers()) == before


async def test_closing_answers_what_is_under_way(bundles: Mapping[str, Bundle]) -> None:
    async with world_of(bundles, store_reads=1) as world:
        world.store.open.clear()
        calls = submitted(world, "u1")
        await until(lambda: len(world.store.reads) == 1)
        calls += submitted(world, "u2", "u3")
        await asyncio.sleep(0.001)
        closing = asyncio.create_task(world.ranker.close())
        await asyncio.sleep(0.001)
        assert not closing.done()
        world.store.open.set()
        await closing
        assert [call.answer is not None for call in calls] == [True] * 3
        calls = submitted(world, "u4")
        await ended(calls)
        assert type(calls[0].error) is NotReady


@pytest.mark.parametrize("end", ["answered", "too late", "failed", "refused", "unforeseen", "gone"])
async def test_a_call_that_has_ended_is_freed_without_the_garbage_collector(
    bundles: Mapping[str, Bundle], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """The collector runs seldom, and a rush of refusals must not pile up what it would have to find."""
    monkeypatch.setattr(ranker_module, "_log", BrokenLog())
    async with world_of(bundles) as world:
        await ended(submitted(world, "first"))
        faults = {"failed": InferenceFailed(), "refused": Overloaded(), "unforeseen": ZeroDivisionError("unforeseen")}
        world.served["treatment"].fault = faults.get(end)
        gc.disable()
        try:
            calls = submitted(world, "u1", "u2", **({"deadline": 0.0} if end == "too late" else {}))
            if end == "gone":
                calls[0].abandon()
                calls[1].abandon()
            await ended(calls)
            assert (calls[0].answer is not None) == (end == "answered")
            assert (calls[0].error is not None) == (end not in ("answered", "gone"))
            left = [weakref.ref(call) for call in calls]
            calls.clear()
            await until(lambda: [one() is None for one in left] == [True, True])
        finally:
            gc.enable()
