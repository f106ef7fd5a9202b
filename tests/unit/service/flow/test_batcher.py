"""Requests that wait together are answered together; refusals are sent at once."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import DeadlineExceeded, InferenceFailed, NotReady, Overloaded
from tests.support.batches import (
    Answers,
    Entry,
    Gate,
    batcher_of,
    doubles,
    items_of,
    now,
    outcomes,
    settle,
    submitted,
    timers,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The service runs on uvloop, whose clock and timers are its own."""
    return "asyncio", {"use_uvloop": request.param}


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
