"""Entries that wait together are answered together: a bounded queue before work that is done in batches.

A batch is what has queued while the last one ran, up to a budget of rows and of cost. No entry waits for others while
nothing runs. An entry is any object with a cost and a time until which someone needs its answer; it is answered once:
with its value, with its error, or with the reason why it was not run. Answers go to a function of a whole list, so that
the next stage works on all of them together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog

from service.errors import DeadlineExceeded, NotReady, Overloaded
from service.metrics import Metrics

V = TypeVar("V")

_SLOW_SECONDS: Final = 0.001  # after this long, another batch may start beside one that is under way

_log = structlog.get_logger(__name__)


class Entry(Protocol):
    """An entry that can wait for a batch."""

    cost: int
    """Its share of a batch's budget."""
    until: float
    """Event loop time after which no one needs the answer."""
    queued_at: float
    """Set by the batcher: the time of arrival."""
    waited: float
    """Set by the batcher: seconds in the queue."""

    @property
    def is_over(self) -> bool:
        """Return whether no one waits for it any more."""


E = TypeVar("E", bound=Entry)
Answered = Callable[[Sequence[E], Sequence[V | Exception]], None]


class Batcher(Generic[E, V]):
    """Answers every entry exactly once, unless it is over before; all on the event loop.

    Args:
        run: answers a batch, one value or exception for each entry, in their order.
        answered: takes answered entries with their values; must not raise.
        max_queue: maximum waiting entries; further ones are answered with Overloaded at once.
        max_rows: entries of one batch.
        max_cost: summed cost of one batch; an entry that costs more runs in a separate batch.
        name: its name in metrics and logs.
        observer: counts.
        concurrency: batches that may run at once. A second one starts beside the first only when that is slow.
        run_now: answers a quick batch at once, without a task; None means: use `run`.
        begin: starts a batch without a task, and returns whether it did, else `run` is used. Its second argument is
            called once, later, with the values.
        gather: called before a batch is answered; submits entries that are about to come, so that their batch is under
            way meanwhile.
    """

    def __init__(
        self,
        run: Callable[[list[E]], Awaitable[Sequence[V | Exception]]],
        answered: Answered[E, V],
        *,
        max_queue: int,
        max_rows: int,
        max_cost: int,
        name: str,
        observer: Metrics,
        concurrency: int = 1,
        run_now: Callable[[list[E]], Sequence[V | Exception] | None] | None = None,
        begin: Callable[[list[E], Callable[[Sequence[V | Exception]], None]], bool] | None = None,
        gather: Callable[[], None] = lambda: None,
    ) -> None:
        self._run, self._run_now, self._begin, self._answered = run, run_now, begin, answered
        self._gather = gather
        self._max_queue, self._max_rows, self._max_cost = max_queue, max_rows, max_cost
        self._name, self._observer, self._concurrency = name, observer, concurrency
        self._waiting: dict[int, E] = {}  # by identity, in order of arrival
        self._running: dict[int, E] = {}
        self._batches: dict[int, asyncio.Task[None] | None] = {}  # under way, by number; without a task if `begin` did
        self._count = 0
        self._ended: asyncio.Event | None = None  # for `close`: a batch has
        self._is_taking = self._is_closing = False
        self._expiry: asyncio.TimerHandle | None = None
        self._expires_at = 0.0  # uvloop's handle of a timer that is due does not know when
        self._patience: asyncio.TimerHandle | None = None

    def submit(self, entries: Sequence[E]) -> None:
        """Take entries; each is answered later, or at once."""
        refused: list[E] = []
        now = time.perf_counter()
        for entry in entries:
            if self._is_closing or not self._has_room():
                refused.append(entry)
                continue
            entry.queued_at = now
            self._waiting[id(entry)] = entry
        self._take()
        if refused:
            error = NotReady("The service is stopping.") if self._is_closing else Overloaded("The queue is full.")
            self._settle(refused, [error] * len(refused))

    def _has_room(self) -> bool:
        if len(self._waiting) >= self._max_queue:  # are there some that no one waits for?
            self._waiting = {key: entry for key, entry in self._waiting.items() if not entry.is_over}
        return len(self._waiting) < self._max_queue

    async def close(self, *, drain: bool = True) -> None:
        """Stop accepting; answer waiting entries, or refuse them without `drain`; return when all are answered."""
        self._is_closing = True
        if not drain:
            left = list(self._waiting.values())
            self._waiting.clear()
            self._settle(left, [NotReady("The service is stopping.")] * len(left))
        while self._batches or self._waiting:
            self._take()
            if self._batches:
                self._ended = asyncio.Event()
                await self._ended.wait()
        self._cancel_timers()

    def _take(self) -> None:
        """Start batches while there is something to do and someone to do it."""
        if self._is_taking:  # an answer has led to another entry: the loop below will see it
            return
        self._is_taking = True
        try:
            while self._waiting and self._may_start():
                batch = self._next()
                if batch:
                    self._start(batch)
        finally:
            self._is_taking = False
            if self._waiting or self._running:
                self._watch()
            else:
                self._cancel_timers()
            self._observer.queue_depth(self._name, len(self._waiting))

    def _may_start(self) -> bool:
        if not self._batches:
            return True
        return self._patience is None and len(self._batches) < self._concurrency

    def _next(self) -> list[E]:
        """Return the oldest entries that fit one batch; answer those that are too late."""
        batch: list[E] = []
        late: list[E] = []
        cost = 0
        now, began = asyncio.get_running_loop().time(), time.perf_counter()
        for key, entry in list(self._waiting.items()):
            is_late = entry.until <= now
            is_full = len(batch) >= self._max_rows or cost + entry.cost > self._max_cost
            if batch and is_full and not (is_late or entry.is_over):
                break
            del self._waiting[key]
            if entry.is_over:
                continue
            if is_late:
                late.append(entry)
                continue
            entry.waited = began - entry.queued_at
            batch.append(entry)
            cost += entry.cost
        if late:
            self._settle(late, [DeadlineExceeded("The deadline passed before the work began.")] * len(late))
        if batch:
            self._observer.batch(self._name, len(batch), cost)
        return batch

    def _start(self, batch: list[E]) -> None:
        values = self._at_once(batch)
        if values is not None:
            self._settle(batch, values)
            return
        for entry in batch:
            self._running[id(entry)] = entry
        self._count += 1
        number = self._count
        self._batches[number] = None
        if not self._has_begun(batch, number):
            self._batches[number] = asyncio.get_running_loop().create_task(self._work(batch, number))
        if self._concurrency > 1 and self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(_SLOW_SECONDS, self._lose_patience)

    def _at_once(self, batch: list[E]) -> Sequence[V | Exception] | None:
        if self._run_now is None:
            return None
        try:
            values = self._run_now(batch)
            if values is not None:
                _check(batch, values)
            return values
        except Exception as error:  # after any error of a batch, every entry is answered
            self._note_failure(batch)
            return [error] * len(batch)

    def _has_begun(self, batch: list[E], number: int) -> bool:
        if self._begin is None:
            return False

        def done(values: Sequence[V | Exception]) -> None:
            try:
                _check(batch, values)
            except RuntimeError as error:
                values = [error] * len(batch)
                self._note_failure(batch)
            if len(batch) == 1:
                self._end(batch, number, values)
            else:  # what else can be read in this pass of the loop is read first
                asyncio.get_running_loop().call_soon(self._end, batch, number, values)

        try:
            return self._begin(batch, done)
        except Exception:  # `run` tells what is wrong
            self._note_failure(batch)
            return False

    async def _work(self, batch: list[E], number: int) -> None:
        values: Sequence[V | Exception] = []
        try:
            values = await self._run(batch)
            _check(batch, values)
        except Exception as error:  # after any error of a batch, every entry is answered
            values = [error] * len(batch)
            self._note_failure(batch)
        except BaseException:
            values = [NotReady("The work was cancelled.")] * len(batch)
            raise
        finally:
            self._end(batch, number, values)

    def _end(self, batch: list[E], number: int, values: Sequence[V | Exception]) -> None:
        """Answer the entries of a batch that have not been answered because they were late, and go on."""
        del self._batches[number]
        if self._ended is not None:
            self._ended.set()
        running = self._running
        kept = [place for place, entry in enumerate(batch) if running.pop(id(entry), None) is not None]
        if not self._batches and self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if len(kept) < len(batch):
            batch, values = [batch[place] for place in kept], [values[place] for place in kept]
        try:
            self._gather()
            self._take()  # first, so that an error in an answer cannot keep back what waits
        finally:
            self._settle(batch, values)

    def _settle(self, entries: Sequence[E], values: Sequence[V | Exception]) -> None:
        """Answer those entries that someone still waits for."""
        if any(entry.is_over for entry in entries):
            open_places = [place for place, entry in enumerate(entries) if not entry.is_over]
            entries, values = [entries[place] for place in open_places], [values[place] for place in open_places]
        if not entries:
            return
        try:
            self._answered(entries, values)
        except Exception:  # the entries that still wait must not be lost with these
            self._note_failure(entries)

    def _note_failure(self, entries: Sequence[E]) -> None:
        with suppress(Exception):  # a log that fails must not keep an entry from its answer
            _log.exception("batch_failed", batcher=self._name, rows=len(entries))

    # --- deadlines

    def _watch(self) -> None:
        """Ensure that no entry waits beyond its time, with one timer for the earliest."""
        earliest = min(entry.until for entry in self._everything())
        if self._expiry is not None:
            if self._expires_at <= earliest:
                return
            self._expiry.cancel()
            self._expiry = None
        if earliest != float("inf"):
            self._expiry = asyncio.get_running_loop().call_at(earliest, self._expire)
            self._expires_at = earliest

    def _everything(self) -> Iterable[E]:
        yield from self._waiting.values()
        yield from self._running.values()

    def _expire(self) -> None:
        self._expiry = None
        now = asyncio.get_running_loop().time()
        late: list[Any] = []
        for entries in (self._waiting, self._running):
            keys = [key for key, entry in entries.items() if entry.until <= now or entry.is_over]
            late += [entries.pop(key) for key in keys]
        if self._waiting or self._running:
            self._watch()
        self._observer.queue_depth(self._name, len(self._waiting))
        self._settle(late, [DeadlineExceeded("The deadline passed.")] * len(late))

    def _lose_patience(self) -> None:
        self._patience = None
        if self._waiting:
            self._take()

    def _cancel_timers(self) -> None:
        for timer in (self._expiry, self._patience):
            if timer is not None:
                timer.cancel()
        self._expiry = self._patience = None


def _check(batch: Sequence[object], values: Sequence[object]) -> None:
    if len(values) != len(batch):
        raise RuntimeError(f"{len(values)} answers to {len(batch)} entries")
