"""Requests that wait together are answered together; refusals are sent at once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from service.errors import DeadlineExceeded, InferenceFailed, NotReady, Overloaded
from service.flow import batcher as batcher_module
from service.flow.batcher import Batcher
from tests.support.fakes import BrokenLog, TaskCounts

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The service runs on uvloop, whose clock and timers are its own."""
    return "asyncio", {"use_uvloop": request.param}


class Entry:
    """Waits for the double of its item; `outcomes` has every answer that it got."""

    def __init__(self, item: int, cost: int = 1, until: float = math.inf) -> None:
        self.item, self.cost, self.until = item, cost, until
        self.queued_at = self.waited = -1.0
        self.is_over = False
        self.outcomes: list[int | Exception] = []
        self._answered = asyncio.Event()

    def take(self, value: int | Exception) -> None:
        self.outcomes.append(value)
        self._answered.set()

    async def outcome(self) -> int | Exception:
        async with asyncio.timeout(10):
            await self._answered.wait()
        [outcome] = self.outcomes
        return outcome


Answers = Sequence[int | Exception]
Run = Callable[[list[Entry]], Awaitable[Answers]]


class Observer(TaskCounts):
    """Notes what a batcher reports."""

    def __init__(self) -> None:
        super().__init__()
        self.depths: list[int] = []
        self.batches: list[tuple[int, int]] = []

    def queue_depth(self, name: str, entries: int) -> None:
        self.depths.append(entries)

    def batch(self, name: str, rows: int, cost: int) -> None:
        self.batches.append((rows, cost))


class Gate:
    """A run that answers each entry with the double of its item, once it is let through."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()

    async def __call__(self, entries: list[Entry]) -> Answers:
        self.batches.append(items_of(entries))
        await self.open.wait()
        return doubles(entries)

    async def entered(self, batches: int = 1) -> None:
        """Wait until so many batches have begun."""
        await until(lambda: len(self.batches) >= batches)


def items_of(entries: Sequence[Entry]) -> list[int]:
    return [entry.item for entry in entries]


def doubles(entries: Sequence[Entry]) -> list[int | Exception]:
    return [2 * entry.item for entry in entries]


def answer(entries: Sequence[Entry], values: Answers) -> None:
    for entry, value in zip(entries, values, strict=True):
        entry.take(value)


def batcher_of(run: Run, **options: Any) -> tuple[Batcher[Entry, int], Observer]:
    observer = Observer()
    budget = {"max_queue": 100, "max_rows": 100, "max_cost": 1_000, "answered": answer, **options}
    return Batcher(run, name="test", observer=observer, **budget), observer


def submitted(batcher: Batcher[Entry, int], *items: int, **fields: Any) -> list[Entry]:
    """Submit an entry for each item, one after the other, as requests come."""
    entries = [Entry(item, **fields) for item in items]
    for entry in entries:
        batcher.submit([entry])
    return entries


async def outcomes(entries: Sequence[Entry]) -> list[int | Exception]:
    return [await entry.outcome() for entry in entries]


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - there is nothing to wait on
            await asyncio.sleep(0.001)


def now() -> float:
    return asyncio.get_running_loop().time()


def timers(batcher: Batcher[Entry, int]) -> list[Any]:
    """Return the timers of a batcher that the event loop still has; uvloop does not show its own."""
    kept = [timer for timer in (batcher._expiry, batcher._patience) if timer is not None]
    scheduled = getattr(asyncio.get_running_loop(), "_scheduled", None)
    if scheduled is None:
        return kept
    mine = [timer for timer in scheduled if getattr(timer._callback, "__self__", None) is batcher]
    return [timer for timer in mine if not timer.cancelled()]


async def test_while_idle_an_entry_is_a_batch_of_its_own_at_once() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    first = submitted(batcher, 1)
    await asyncio.sleep(0)
    assert gate.batches == [[1]]
    gate.open.set()
    assert await outcomes(first) == [2]
    await batcher.close()


async def test_what_is_submitted_together_is_one_batch() -> None:
    gate = Gate()
    batcher, observer = batcher_of(gate)
    entries = [Entry(1), Entry(2), Entry(3)]
    batcher.submit(entries)
    gate.open.set()
    assert await outcomes(entries) == [2, 4, 6]
    assert gate.batches == [[1, 2, 3]]
    assert observer.batches == [(3, 3)]
    await batcher.close()


async def test_what_queues_while_a_batch_runs_is_the_next_batch() -> None:
    gate = Gate()
    batcher, observer = batcher_of(gate)
    entries = submitted(batcher, 1)
    await gate.entered()
    entries += submitted(batcher, 2, 3, 4)
    assert observer.depths[-1] == 3
    gate.open.set()
    assert await outcomes(entries) == [2, 4, 6, 8]
    assert gate.batches == [[1], [2, 3, 4]]
    assert observer.batches == [(1, 1), (3, 3)]
    assert observer.depths[-1] == 0
    await batcher.close()


async def test_a_batch_holds_no_more_rows_and_no_more_cost_than_its_budget() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate, max_rows=3, max_cost=10)
    entries = submitted(batcher, 0)
    await gate.entered()
    entries += [Entry(item, cost) for item, cost in enumerate([1, 1, 1, 1, 9, 1, 25, 1], start=1)]
    batcher.submit(entries[1:])
    gate.open.set()
    await outcomes(entries)
    assert gate.batches == [[0], [1, 2, 3], [4, 5], [6], [7], [8]]
    await batcher.close()


async def test_a_full_queue_is_refused_at_once_and_says_when_to_come_back() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate, max_queue=2)
    entries = submitted(batcher, 1)
    await gate.entered()
    entries += submitted(batcher, 2, 3)
    [refused] = submitted(batcher, 4)
    [error] = refused.outcomes
    assert isinstance(error, Overloaded)
    assert error.retry_after is not None
    gate.open.set()
    assert await outcomes(entries) == [2, 4, 6]
    assert len(refused.outcomes) == 1
    await batcher.close()


async def test_of_many_at_once_those_that_find_no_room_are_refused() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate, max_queue=2)
    entries = [Entry(1), Entry(2), Entry(3)]
    batcher.submit(entries)
    assert isinstance(entries[2].outcomes[0], Overloaded)
    gate.open.set()
    assert await outcomes(entries[:2]) == [2, 4]
    await batcher.close()


async def test_an_entry_that_is_over_makes_room_and_is_neither_run_nor_answered() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate, max_queue=1)
    first = submitted(batcher, 1)
    await gate.entered()
    [gone] = submitted(batcher, 2)
    gone.is_over = True
    third = submitted(batcher, 3)
    gate.open.set()
    assert await outcomes(first + third) == [2, 6]
    await batcher.close()
    assert gone.outcomes == []
    assert gate.batches == [[1], [3]]


async def test_a_queue_full_of_entries_that_are_over_takes_as_many_others() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate, max_queue=50)
    first = submitted(batcher, 0)
    await gate.entered()
    gone = submitted(batcher, *range(1, 51))
    for entry in gone:
        entry.is_over = True
    others = [Entry(item) for item in range(51, 101)]
    batcher.submit(others)
    [refused] = submitted(batcher, 101)
    assert isinstance(refused.outcomes[0], Overloaded)
    gate.open.set()
    assert await outcomes(first + others) == [0, *range(102, 202, 2)]
    assert not any(entry.outcomes for entry in gone)
    assert gate.batches == [[0], list(range(51, 101))]
    await batcher.close()


async def test_an_entry_that_is_over_while_it_runs_is_not_answered() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    entries = [Entry(1), Entry(2), Entry(3)]
    batcher.submit(entries)
    await gate.entered()
    entries[1].is_over = True
    gate.open.set()
    assert await outcomes([entries[0], entries[2]]) == [2, 6]
    await batcher.close()
    assert entries[1].outcomes == []


async def test_a_deadline_that_has_passed_is_refused_without_work() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    [late] = submitted(batcher, 1, until=now())
    assert isinstance(late.outcomes[0], DeadlineExceeded)
    await batcher.close()
    assert gate.batches == []


async def test_an_entry_that_expires_in_the_queue_is_answered_then_and_never_run() -> None:
    gate = Gate()
    batcher, observer = batcher_of(gate)
    first = submitted(batcher, 1)
    await gate.entered()
    [late] = submitted(batcher, 2, until=now() + 0.001)
    assert isinstance(await late.outcome(), DeadlineExceeded)
    assert observer.depths[-1] == 0
    gate.open.set()
    assert await outcomes(first) == [2]
    await batcher.close()
    assert gate.batches == [[1]]


async def test_an_entry_that_expires_while_it_runs_is_answered_then_and_once() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    entries = [Entry(1, until=now() + 0.001), Entry(2)]
    batcher.submit(entries)
    assert isinstance(await entries[0].outcome(), DeadlineExceeded)
    assert entries[1].outcomes == []
    gate.open.set()
    assert await entries[1].outcome() == 4
    await batcher.close()
    assert len(entries[0].outcomes) == 1


async def test_a_nearer_deadline_that_comes_later_is_kept_too() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    entries = submitted(batcher, 0)
    await gate.entered()
    entries += [Entry(1, until=now() + 60), Entry(2, until=now() + 0.002), Entry(3, until=now() + 0.004), Entry(4)]
    for entry in entries[1:]:
        batcher.submit([entry])
    for entry in entries[2:4]:
        assert isinstance(await entry.outcome(), DeadlineExceeded)
        assert now() >= entry.until - 0.001
    assert (entries[1].outcomes, entries[4].outcomes) == ([], [])
    gate.open.set()
    assert await outcomes([entries[0], entries[1], entries[4]]) == [0, 2, 8]
    await batcher.close()


async def test_entries_that_come_while_a_deadline_is_passing_are_taken() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    entries = submitted(batcher, 0)
    await gate.entered()
    [late] = submitted(batcher, 1, until=now())  # its timer is due, and has not run
    entries += submitted(batcher, 2, until=now() + 60)
    [sooner] = submitted(batcher, 3, until=now() - 1)
    entries += submitted(batcher, 4)
    for one in (late, sooner):
        assert isinstance(await one.outcome(), DeadlineExceeded)
    gate.open.set()
    assert await outcomes(entries) == [0, 4, 8]
    await batcher.close()


async def test_each_entry_gets_its_own_error() -> None:
    async def run(entries: list[Entry]) -> Answers:
        return [InferenceFailed(str(item)) if item % 2 else item for item in items_of(entries)]

    batcher, _ = batcher_of(run)
    results = await outcomes(submitted(batcher, *range(4)))
    assert [str(result) if isinstance(result, Exception) else result for result in results] == [0, "1", 2, "3"]
    await batcher.close()


@pytest.mark.parametrize("answers", [[], [1, 2, 3]])
@pytest.mark.parametrize("is_at_once", [False, True])
async def test_a_run_that_breaks_its_promise_fails_its_batch_and_no_other(answers: list[int], is_at_once: bool) -> None:
    def run_now(entries: list[Entry]) -> Answers:
        return list(answers) if items_of(entries) == [0] else doubles(entries)

    async def run(entries: list[Entry]) -> Answers:
        return run_now(entries)

    batcher, _ = batcher_of(run, run_now=run_now if is_at_once else None)
    [error] = await outcomes(submitted(batcher, 0))
    assert isinstance(error, RuntimeError)
    assert "answers to 1 entries" in str(error)
    assert await outcomes(submitted(batcher, 7)) == [14]
    await batcher.close()


async def test_an_exception_of_the_run_reaches_every_entry_of_its_batch_only() -> None:
    gate = Gate()

    async def run(entries: list[Entry]) -> Answers:
        if 13 in items_of(entries):
            raise ValueError("unlucky")
        return await gate(entries)

    batcher, _ = batcher_of(run)
    first = submitted(batcher, 1)
    await gate.entered()
    others = submitted(batcher, 13, 14)
    gate.open.set()
    assert [type(result) for result in await outcomes(others)] == [ValueError, ValueError]
    assert await outcomes(first) == [2]
    assert await outcomes(submitted(batcher, 5)) == [10]
    await batcher.close()


async def test_closing_answers_what_waits_and_refuses_what_comes() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    entries = submitted(batcher, 1)
    await gate.entered()
    entries += submitted(batcher, 2, 3)
    closing = asyncio.create_task(batcher.close())
    await settle()
    [refused] = submitted(batcher, 4)
    assert isinstance(refused.outcomes[0], NotReady)
    assert not closing.done()
    gate.open.set()
    await closing
    assert [entry.outcomes for entry in entries] == [[2], [4], [6]]


async def test_closing_without_draining_refuses_what_waits_and_lets_the_running_batch_finish() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    first = submitted(batcher, 1)
    await gate.entered()
    [second] = submitted(batcher, 2)
    closing = asyncio.create_task(batcher.close(drain=False))
    assert isinstance(await second.outcome(), NotReady)
    gate.open.set()
    await closing
    assert first[0].outcomes == [2]
    assert len(second.outcomes) == 1


async def test_while_it_closes_deadlines_are_kept() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    entries = [Entry(1), Entry(2, until=now() + 0.005)]
    batcher.submit(entries)
    closing = asyncio.create_task(batcher.close())
    assert isinstance(await entries[1].outcome(), DeadlineExceeded)
    gate.open.set()
    await closing
    assert entries[0].outcomes == [2]
    assert timers(batcher) == []


async def test_time_in_the_queue_is_measured_for_each_entry() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    [first] = submitted(batcher, 1)
    await gate.entered()
    [second] = submitted(batcher, 2)
    asyncio.get_running_loop().call_later(0.001, gate.open.set)
    await outcomes([first, second])
    assert 0 <= first.waited < second.waited
    assert first.queued_at < second.queued_at
    await batcher.close()


# --- several batches at once


async def test_a_second_batch_starts_beside_a_slow_one_and_no_more_than_that_are_allowed() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate, concurrency=2, max_rows=1)
    entries = submitted(batcher, 1, 2, 3)
    await gate.entered(2)
    await asyncio.sleep(0.005)
    assert gate.batches == [[1], [2]]
    gate.open.set()
    assert await outcomes(entries) == [2, 4, 6]
    await batcher.close()


async def test_beside_a_batch_that_is_not_slow_no_second_one_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "_SLOW_SECONDS", 60.0)
    gate = Gate()
    batcher, _ = batcher_of(gate, concurrency=4)
    entries = submitted(batcher, 1)
    await gate.entered()
    entries += submitted(batcher, 2, 3)
    await asyncio.sleep(0.005)
    assert gate.batches == [[1]]
    gate.open.set()
    assert await outcomes(entries) == [2, 4, 6]
    assert gate.batches == [[1], [2, 3]]
    await batcher.close()


async def test_what_comes_once_a_batch_is_slow_does_not_wait() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate, concurrency=3)
    entries = submitted(batcher, 1)
    await gate.entered()
    await until(lambda: timers(batcher) == [])  # it is slow now
    entries += submitted(batcher, 2)
    await asyncio.sleep(0)
    assert gate.batches == [[1], [2]]
    gate.open.set()
    assert await outcomes(entries) == [2, 4]
    await batcher.close()


# --- batches that are answered at once


async def test_a_batch_that_can_be_run_at_once_is_answered_before_the_call_returns() -> None:
    gate = Gate()
    batcher, observer = batcher_of(gate, run_now=doubles)
    entries = [Entry(1), Entry(2)]
    batcher.submit(entries)
    assert [entry.outcomes for entry in entries] == [[2], [4]]
    assert observer.batches == [(2, 2)]
    assert gate.batches == []
    assert timers(batcher) == []
    await batcher.close()


async def test_a_batch_that_cannot_be_run_at_once_is_run_as_usual() -> None:
    gate = Gate()
    gate.open.set()
    tried: list[list[int]] = []

    def run_now(entries: list[Entry]) -> Answers | None:
        tried.append(items_of(entries))
        return None if len(entries) > 1 else doubles(entries)

    batcher, _ = batcher_of(gate, run_now=run_now)
    entries = [Entry(1), Entry(2)]
    batcher.submit(entries)
    assert [entry.outcomes for entry in entries] == [[], []]
    assert await outcomes(entries) == [2, 4]
    [third] = submitted(batcher, 3)
    assert third.outcomes == [6]
    assert (tried, gate.batches) == ([[1, 2], [3]], [[1, 2]])
    await batcher.close()


async def test_an_error_of_a_run_at_once_reaches_its_entries_even_when_its_log_line_fails_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batcher_module, "_log", BrokenLog())

    def run_now(entries: list[Entry]) -> Answers:
        if 1 in items_of(entries):
            raise ValueError("the whole batch")
        return doubles(entries)

    batcher, _ = batcher_of(Gate(), run_now=run_now)
    entries = [Entry(1), Entry(2)]
    batcher.submit(entries)
    assert [[type(one) for one in entry.outcomes] for entry in entries] == [[ValueError], [ValueError]]
    assert await outcomes(submitted(batcher, 3)) == [6]
    await batcher.close()


async def test_an_answer_that_leads_to_another_entry_is_taken_up() -> None:
    batcher: Batcher[Entry, int]
    late = Entry(5)

    def answered(entries: Sequence[Entry], values: Answers) -> None:
        answer(entries, values)
        if items_of(entries) == [1]:
            batcher.submit([late])

    batcher, _ = batcher_of(Gate(), run_now=doubles, answered=answered)
    submitted(batcher, 1)
    assert late.outcomes == [10]
    await batcher.close()


# --- faults


async def test_a_batch_that_fails_is_answered_even_when_its_log_line_fails_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "_log", BrokenLog())

    async def run(entries: list[Entry]) -> Answers:
        if items_of(entries) == [1]:
            raise ValueError("the whole batch")
        return doubles(entries)

    batcher, _ = batcher_of(run)
    [error] = await outcomes(submitted(batcher, 1))
    assert isinstance(error, ValueError)
    assert await outcomes(submitted(batcher, 2)) == [4]
    await batcher.close()


async def test_an_entry_is_answered_when_something_that_its_batch_awaited_was_cancelled() -> None:
    async def run(entries: list[Entry]) -> Answers:
        if items_of(entries) == [1]:
            raise asyncio.CancelledError
        return doubles(entries)

    batcher, _ = batcher_of(run)
    [error] = await outcomes(submitted(batcher, 1))
    assert isinstance(error, NotReady)
    assert await outcomes(submitted(batcher, 2)) == [4]
    await batcher.close()


@pytest.mark.parametrize("is_at_once", [False, True])
async def test_an_answer_that_cannot_be_handed_over_keeps_no_other_entry_from_its_own(is_at_once: bool) -> None:
    def answered(entries: Sequence[Entry], values: Answers) -> None:
        if 1 in items_of(entries):
            raise ValueError("unforeseen")
        answer(entries, values)

    gate = Gate()
    batcher, _ = batcher_of(gate, answered=answered, max_rows=1, run_now=doubles if is_at_once else None)
    gate.open.set()
    entries = [Entry(1), Entry(2), Entry(3, until=now() - 1), Entry(4)]
    batcher.submit(entries)
    assert isinstance((await outcomes(entries[1:]))[1], DeadlineExceeded)
    assert [entry.outcomes for entry in (entries[0], entries[1], entries[3])] == [[], [4], [8]]
    await batcher.close()
    assert timers(batcher) == []


async def test_closing_answers_what_waits_even_after_a_fault_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate, max_rows=1)
    entries = submitted(batcher, 1, 2, 3)
    await gate.entered()
    faults, take = [ValueError("unforeseen")], batcher._next

    def faulty() -> list[Entry]:
        if faults:
            raise faults.pop()
        return take()

    monkeypatch.setattr(batcher, "_next", faulty)
    unheard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unheard.append(context))
    closing = asyncio.create_task(batcher.close())
    gate.open.set()
    await closing
    assert [entry.outcomes for entry in entries] == [[2], [4], [6]]


# --- timers


async def test_while_idle_there_is_no_timer() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate, concurrency=4)
    first = submitted(batcher, 1, until=now() + 60)
    await gate.entered()
    gone = submitted(batcher, 2, until=now() + 30)
    assert timers(batcher) != []
    gone[0].is_over = True
    gate.open.set()
    await outcomes(first)
    await settle()
    assert timers(batcher) == []
    await batcher.close()


async def test_however_many_wait_there_is_one_timer_for_their_deadlines() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    entries = submitted(batcher, 0)
    await gate.entered()
    for item in range(1, 50):
        entries += submitted(batcher, item, until=now() + 60 - item)
    assert len(timers(batcher)) == 1
    gate.open.set()
    await outcomes(entries)
    await settle()
    assert timers(batcher) == []
    await batcher.close()
