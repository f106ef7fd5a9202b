"""What waits together is answered together; what cannot be answered is said at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest

from service.errors import DeadlineExceeded, InferenceFailed, NotReady, Overloaded
from service.flow.batcher import Batcher
from tests.support.fakes import BrokenLog, TaskCounts

pytestmark = pytest.mark.anyio

Run = Callable[[list[int]], Awaitable[Sequence[int | Exception]]]


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
    """A run that answers each item with its double, once it is let through."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, items: list[int]) -> list[int | Exception]:
        self.batches.append(items)
        self.entered.set()
        await self.open.wait()
        return [2 * item for item in items]


def batcher_of(run: Run, **limits: int) -> tuple[Batcher[int, int], Observer]:
    observer = Observer()
    budget = {"max_queue": 100, "max_rows": 100, "max_cost": 1_000, **limits}
    batcher: Batcher[int, int] = Batcher(run, name="test", observer=observer, **budget)
    batcher.start()
    return batcher, observer


def spawn(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(coroutine)


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_while_idle_an_entry_is_a_batch_of_its_own_at_once() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    first = spawn(batcher.submit(1))
    await gate.entered.wait()
    assert gate.batches == [[1]]
    gate.open.set()
    assert (await first).value == 2
    await batcher.close()


async def test_what_queues_while_a_batch_runs_is_the_next_batch() -> None:
    gate = Gate()
    batcher, observer = batcher_of(gate)
    tasks = [spawn(batcher.submit(1))]
    await gate.entered.wait()
    tasks += [spawn(batcher.submit(item)) for item in (2, 3, 4)]
    await settle()
    gate.open.set()
    assert [answer.value for answer in await asyncio.gather(*tasks)] == [2, 4, 6, 8]
    assert gate.batches == [[1], [2, 3, 4]]
    assert observer.batches == [(1, 1), (3, 3)]
    assert observer.depths[-1] == 0
    await batcher.close()


async def test_a_batch_holds_no_more_rows_and_no_more_cost_than_its_budget() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate, max_rows=3, max_cost=10)
    tasks = [spawn(batcher.submit(0))]
    await gate.entered.wait()
    tasks += [spawn(batcher.submit(item, cost=cost)) for item, cost in enumerate([1, 1, 1, 1, 9, 1, 25, 1], start=1)]
    await settle()
    gate.open.set()
    await asyncio.gather(*tasks)
    assert gate.batches == [[0], [1, 2, 3], [4, 5], [6], [7], [8]]
    await batcher.close()


async def test_a_full_queue_is_refused_at_once_and_says_when_to_come_back() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate, max_queue=2)
    tasks = [spawn(batcher.submit(1))]
    await gate.entered.wait()
    tasks += [spawn(batcher.submit(2)), spawn(batcher.submit(3))]
    await settle()
    with pytest.raises(Overloaded) as caught:
        await batcher.submit(4)
    assert caught.value.retry_after is not None
    gate.open.set()
    assert [answer.value for answer in await asyncio.gather(*tasks)] == [2, 4, 6]
    await batcher.close()


async def test_a_cancelled_entry_makes_room_and_is_not_run() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate, max_queue=1)
    first = spawn(batcher.submit(1))
    await gate.entered.wait()
    second = spawn(batcher.submit(2))
    await settle()
    second.cancel()
    await settle()
    third = spawn(batcher.submit(3))
    await settle()
    gate.open.set()
    assert [(await first).value, (await third).value] == [2, 6]
    assert second.cancelled()
    assert gate.batches == [[1], [3]]
    await batcher.close()


async def test_a_deadline_that_has_passed_is_refused_without_work() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    with pytest.raises(DeadlineExceeded):
        await batcher.submit(1, deadline=now())
    await batcher.close()
    assert gate.batches == []


async def test_an_entry_that_expires_in_the_queue_is_answered_then_and_never_run() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    first = spawn(batcher.submit(1))
    await gate.entered.wait()
    with pytest.raises(DeadlineExceeded):
        await batcher.submit(2, deadline=now() + 0.001)
    gate.open.set()
    assert (await first).value == 2
    await batcher.close()
    assert gate.batches == [[1]]


async def test_an_entry_that_expires_while_it_runs_is_answered_then() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    with pytest.raises(DeadlineExceeded):
        await batcher.submit(1, deadline=now() + 0.001)
    gate.open.set()
    await batcher.close()


async def test_each_entry_gets_its_own_error() -> None:
    async def run(items: list[int]) -> list[int | Exception]:
        return [InferenceFailed(str(item)) if item % 2 else item for item in items]

    batcher, _ = batcher_of(run)
    results = await asyncio.gather(*(batcher.submit(item) for item in range(4)), return_exceptions=True)
    assert [str(result) if isinstance(result, Exception) else result.value for result in results] == [
        0, "1", 2, "3",
    ]  # fmt: skip
    await batcher.close()


@pytest.mark.parametrize("answers", [[], [1, 2, 3]])
async def test_a_run_that_breaks_its_promise_fails_its_batch_and_not_the_worker(answers: list[int]) -> None:
    async def run(items: list[int]) -> list[int | Exception]:
        return list(answers) if items == [0] else list(items)

    batcher, _ = batcher_of(run)
    with pytest.raises(RuntimeError, match="answers to 1 entries"):
        await batcher.submit(0)
    assert (await batcher.submit(7)).value == 7
    await batcher.close()


async def test_an_exception_of_the_run_reaches_every_entry_of_its_batch_only() -> None:
    gate = Gate()

    async def run(items: list[int]) -> list[int | Exception]:
        if 13 in items:
            raise ValueError("unlucky")
        return await gate(items)

    batcher, _ = batcher_of(run)
    first = spawn(batcher.submit(1))
    await gate.entered.wait()
    others = [spawn(batcher.submit(13)), spawn(batcher.submit(14))]
    await settle()
    gate.open.set()
    results = await asyncio.gather(*others, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError]
    assert (await first).value == 2
    assert (await batcher.submit(5)).value == 10
    await batcher.close()


async def test_closing_answers_what_waits_and_refuses_what_comes() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    tasks = [spawn(batcher.submit(1))]
    await gate.entered.wait()
    tasks += [spawn(batcher.submit(2)), spawn(batcher.submit(3))]
    await settle()
    closing = spawn(batcher.close())
    await settle()
    with pytest.raises(NotReady):
        await batcher.submit(4)
    assert not closing.done()
    gate.open.set()
    await closing
    assert [answer.value for answer in await asyncio.gather(*tasks)] == [2, 4, 6]


async def test_closing_without_draining_refuses_what_waits_and_lets_the_running_batch_finish() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    first = spawn(batcher.submit(1))
    await gate.entered.wait()
    second = spawn(batcher.submit(2))
    await settle()
    closing = spawn(batcher.close(drain=False))
    with pytest.raises(NotReady):
        await second
    gate.open.set()
    await closing
    assert (await first).value == 2


async def test_time_in_the_queue_is_measured_for_each_entry() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate)
    first = spawn(batcher.submit(1))
    await gate.entered.wait()
    second = spawn(batcher.submit(2))
    await settle()
    asyncio.get_running_loop().call_later(0.001, gate.open.set)
    assert (await first).queue_seconds >= 0
    assert (await second).queue_seconds > 0
    await batcher.close()


async def test_several_batches_run_at_once_where_that_is_allowed() -> None:
    gate = Gate()
    batcher, _ = batcher_of(gate, concurrency=2, max_rows=1)
    tasks = [spawn(batcher.submit(item)) for item in (1, 2, 3)]
    await settle()
    assert gate.batches == [[1], [2]]
    gate.open.set()
    assert [answer.value for answer in await asyncio.gather(*tasks)] == [2, 4, 6]
    await batcher.close()


async def test_a_batch_that_fails_is_answered_even_when_its_log_line_fails_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.flow.batcher._log", BrokenLog())

    async def run(items: list[int]) -> list[int | Exception]:
        if items == [1]:
            raise ValueError("the whole batch")
        return [2 * item for item in items]

    batcher, observer = batcher_of(run)
    with pytest.raises(ValueError, match="the whole batch"):
        await batcher.submit(1)
    assert (await batcher.submit(2)).value == 4
    assert observer.restarted == {"batcher": 1}
    await batcher.close()


async def test_an_entry_is_answered_when_something_that_its_batch_awaited_was_cancelled() -> None:
    async def run(items: list[int]) -> list[int | Exception]:
        if items == [1]:
            raise asyncio.CancelledError
        return [2 * item for item in items]

    batcher, observer = batcher_of(run)
    with pytest.raises(NotReady):
        await batcher.submit(1)
    assert (await batcher.submit(2)).value == 4
    assert observer.restarted == {"batcher": 1}
    await batcher.close()


async def test_closing_answers_what_waits_even_after_a_fault_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    batcher, observer = batcher_of(gate, max_rows=1)
    entries = [spawn(batcher.submit(item)) for item in (1, 2, 3)]
    await gate.entered.wait()
    faults, take = [ValueError("unforeseen")], batcher._take

    def faulty(now: float) -> list[Any]:
        if faults:
            raise faults.pop()
        return take(now)

    monkeypatch.setattr(batcher, "_take", faulty)
    closing = spawn(batcher.close())
    gate.open.set()
    await closing
    assert [(await entry).value for entry in entries] == [2, 4, 6]
    assert observer.restarted == {"batcher": 1}
