"""Requests that wait together are answered together: a bounded queue before something that works in batches.

A batch is whatever has queued while the last one ran, up to a budget of rows and of cost. Nothing waits for company: an
entry that arrives while nothing runs is a batch of its own at once. So batches grow with load, and only then.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

import structlog

from service.errors import DeadlineExceeded, NotReady, Overloaded
from service.flow.supervision import Supervised, TaskObserver, supervise

In = TypeVar("In")
Out = TypeVar("Out")

_log = structlog.get_logger(__name__)


class Answer(NamedTuple, Generic[Out]):
    """What became of one entry, and how long it stood in the queue."""

    value: Out
    queue_seconds: float


class BatchObserver(TaskObserver, Protocol):
    """Where a batcher's work is counted (service/metrics/)."""

    def queue_depth(self, name: str, entries: int) -> None:
        """Note how many entries wait."""

    def batch(self, name: str, rows: int, cost: int) -> None:
        """Count a batch that is about to run."""


@dataclass(slots=True, eq=False)
class _Entry(Generic[In, Out]):
    item: In
    cost: int
    deadline: float
    arrived: float
    future: asyncio.Future[Answer[Out]]
    started: float = field(default=0.0)


class Batcher(Generic[In, Out]):
    """Answers every accepted entry exactly once: with its value, its own error, or why it was not run.

    Args:
        run: answers a batch, one value or exception for each item, in their order; runs at most `concurrency` at once.
        max_queue: entries that may wait; one more is refused at once.
        max_rows: entries of one batch.
        max_cost: summed cost of one batch; an entry that alone costs more runs alone.
        name: what it is called in metrics and logs.
        observer: counts.
        concurrency: batches that may run at once.
    """

    def __init__(
        self,
        run: Callable[[list[In]], Awaitable[Sequence[Out | Exception]]],
        *,
        max_queue: int,
        max_rows: int,
        max_cost: int,
        name: str,
        observer: BatchObserver,
        concurrency: int = 1,
    ) -> None:
        self._run = run
        self._max_queue, self._max_rows, self._max_cost = max_queue, max_rows, max_cost
        self._name, self._observer = name, observer
        self._concurrency = concurrency
        self._waiting: OrderedDict[int, _Entry[In, Out]] = OrderedDict()
        self._arrived = asyncio.Event()
        self._closing = False
        self._workers: list[Supervised] = []
        self._next_key = 0

    def start(self) -> None:
        """Start working; needs a running event loop."""
        names = [f"batcher-{self._name}-{place}" for place in range(self._concurrency)]
        self._workers = [supervise("batcher", self._work, self._observer, name=name) for name in names]

    async def submit(self, item: In, *, cost: int = 1, deadline: float = math.inf) -> Answer[Out]:
        """Wait for the answer to one item; cancelling the caller takes the item out of the queue.

        Args:
            item: one row of a batch.
            cost: its share of a batch's budget.
            deadline: event loop time after which nobody needs the answer.

        Raises:
            Overloaded: the queue is full.
            DeadlineExceeded: not answered in time; if it was still waiting, it will not be run.
            NotReady: closing.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._admit(now, deadline)
        entry: _Entry[In, Out] = _Entry(item, cost, deadline, time.perf_counter(), loop.create_future())
        key, self._next_key = self._next_key, self._next_key + 1
        self._waiting[key] = entry
        self._note_depth()
        self._arrived.set()
        timer = loop.call_at(deadline, _expire, entry.future) if math.isfinite(deadline) else None
        try:
            return await entry.future
        finally:
            if timer is not None:
                timer.cancel()
            if self._waiting.pop(key, None) is not None:
                self._note_depth()

    async def close(self, *, drain: bool = True) -> None:
        """Accept nothing more; answer what waits, or without `drain` refuse it; return when all is answered."""
        self._closing = True
        if not drain:
            for entry in self._waiting.values():
                if not entry.future.done():
                    entry.future.set_exception(NotReady("The service is stopping."))
            self._waiting.clear()
        finished = asyncio.gather(*[worker.finish() for worker in self._workers])  # before the workers wake and return
        self._arrived.set()
        await finished

    def _admit(self, now: float, deadline: float) -> None:
        if self._closing:
            raise NotReady("The service is stopping.")
        if deadline <= now:
            raise DeadlineExceeded("The deadline passed before the work began.")
        if len(self._waiting) >= self._max_queue:
            raise Overloaded("The queue is full.")

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = self._take(loop.time())
            if batch:
                await self._answer(batch)
            elif self._closing:
                return
            elif not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()

    def _take(self, now: float) -> list[_Entry[In, Out]]:
        """Take the oldest entries that fit one batch; leave out those that nobody waits for any more."""
        batch: list[_Entry[In, Out]] = []
        cost = 0
        began = time.perf_counter()  # uvloop's clock, which deadlines go by, knows milliseconds alone
        while self._waiting and len(batch) < self._max_rows:
            key, entry = next(iter(self._waiting.items()))
            dead = entry.future.done() or entry.deadline <= now
            if not dead and batch and cost + entry.cost > self._max_cost:
                break
            del self._waiting[key]
            if dead:
                _expire(entry.future)
                continue
            entry.started = began
            batch.append(entry)
            cost += entry.cost
        return batch

    async def _answer(self, batch: list[_Entry[In, Out]]) -> None:
        try:
            self._note_depth()
            self._observer.batch(self._name, len(batch), sum(entry.cost for entry in batch))
            values = await self._run([entry.item for entry in batch])
            if len(values) != len(batch):
                raise RuntimeError(f"{len(values)} answers to {len(batch)} entries")
        except Exception as error:  # the worker must outlive whatever a batch does; every entry gets the error
            _settle(batch, [error] * len(batch))
            _log.exception("batch_failed", batcher=self._name, rows=len(batch))
        except BaseException:  # the worker is ending, or a future that the batch awaited was cancelled
            _settle(batch, [NotReady("The work was cancelled.")] * len(batch))
            raise
        else:
            _settle(batch, values)

    def _note_depth(self) -> None:
        self._observer.queue_depth(self._name, len(self._waiting))


def _settle(batch: Sequence[_Entry[In, Out]], values: Sequence[Out | Exception]) -> None:
    """Answer every entry that someone still waits for."""
    for entry, value in zip(batch, values, strict=True):
        if entry.future.done():
            continue
        if isinstance(value, Exception):
            entry.future.set_exception(value)
        else:
            entry.future.set_result(Answer(value, entry.started - entry.arrived))


def _expire(future: asyncio.Future[Answer[Out]]) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded("The deadline passed."))
