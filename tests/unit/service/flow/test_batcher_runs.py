"""Batches side by side, batches that are answered at once, faults, and timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from service.errors import DeadlineExceeded, NotReady
from service.flow import batcher as batcher_module
from service.flow.batcher import Batcher
from tests.support.batches import (
    Answers,
    Entry,
    Gate,
    answer,
    batcher_of,
    doubles,
    items_of,
    now,
    outcomes,
    settle,
    submitted,
    timers,
)
from tests.support.fakes import BrokenLog
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The service runs on uvloop, whose clock and timers are its own."""
    return "asyncio", {"use_uvloop": request.param}


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


class Calls:
    """Begins batches, whose values a test gives later."""

    def __init__(self) -> None:
        self.begun: list[tuple[list[Entry], Callable[[Answers], None]]] = []
        self.is_possible = True

    def begin(self, entries: list[Entry], done: Callable[[Answers], None]) -> bool:
        if self.is_possible:
            self.begun.append((entries, done))
        return self.is_possible

    def items(self) -> list[list[int]]:
        return [items_of(entries) for entries, _ in self.begun]


def submitted_together(batcher: Batcher[Entry, int], *items: int) -> list[Entry]:
    entries = [Entry(item) for item in items]
    batcher.submit(entries)
    return entries


async def test_a_batch_that_has_begun_is_answered_by_a_call_and_what_queued_meanwhile_is_the_next() -> None:
    gate, calls = Gate(), Calls()
    batcher, _ = batcher_of(gate, begin=calls.begin)
    first = submitted_together(batcher, 1, 2)
    [later] = submitted(batcher, 3)
    assert calls.items() == [[1, 2]]
    calls.begun[0][1]([10, 20])
    assert await outcomes(first) == [10, 20]
    assert calls.items() == [[1, 2], [3]]
    calls.begun[1][1]([30])
    assert later.outcomes == [30]  # one entry needs no further pass of the loop
    assert gate.batches == []
    await batcher.close()


async def test_before_a_batch_is_answered_the_next_one_is_gathered_and_begun() -> None:
    calls, late, begun = Calls(), [Entry(3)], []

    def gather() -> None:
        batcher.submit(late)
        late.clear()

    def answered(entries: Sequence[Entry], values: Answers) -> None:
        begun.append(calls.items())
        answer(entries, values)

    batcher, _ = batcher_of(Gate(), begin=calls.begin, gather=gather, answered=answered)
    first = submitted_together(batcher, 1, 2)
    calls.begun[0][1]([10, 20])
    assert await outcomes(first) == [10, 20]
    assert begun == [[[1, 2], [3]]]
    calls.begun[1][1]([30])
    await batcher.close()


async def test_a_batch_that_cannot_begin_is_run_as_usual() -> None:
    gate, calls = Gate(), Calls()
    gate.open.set()
    calls.is_possible = False
    batcher, _ = batcher_of(gate, begin=calls.begin)
    assert await outcomes(submitted_together(batcher, 1, 2)) == [2, 4]
    assert gate.batches == [[1, 2]]
    await batcher.close()


async def test_closing_waits_for_a_batch_that_has_begun() -> None:
    calls = Calls()
    batcher, _ = batcher_of(Gate(), begin=calls.begin)
    entries = submitted_together(batcher, 1, 2)
    closing = asyncio.ensure_future(batcher.close())
    await settle()
    assert not closing.done()
    calls.begun[0][1]([10])  # one value too few
    await closing
    assert [type(outcome) for outcome in await outcomes(entries)] == [RuntimeError] * 2


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
