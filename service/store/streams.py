"""Events to a Redis stream off the request's path: a bounded queue, its flusher, drops counted and not awaited.

A stream that is slow or gone must not slow a ranking or fill the memory. While Redis is down the queue keeps what
fits; after that the newest events are dropped, because the first exposure of a unit is the one that the analysis keeps.
A caller that needs to know that Redis has its events waits for a receipt. At shutdown, events that could not be written
go to the spool (service/store/spool.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol, SupportsBytes

import structlog
from redis import exceptions as redis_errors

from contract.events.streams import EVENT_FIELD
from service.flow.supervision import UNOBSERVED, Supervised, TaskObserver, supervise
from service.redis.client import Client, Command

_RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)  # between tries while Redis is down; the last one repeats
# The XTRIM after each batch counts what it drops. If the user lacks the right to it, XADD trims later.
_BACKSTOP: Final = 1.1

_log = structlog.get_logger(__name__)


class Receipt:
    """Notifies one caller when Redis has its events."""

    def __init__(self) -> None:
        self._waiting = self._lost = 0
        self._settled = asyncio.Event()

    def taken(self) -> None:
        """Note an event that waits to be written."""
        self._waiting += 1
        self._settled.clear()

    def settle(self, is_stored: bool) -> None:
        """Note that an event was stored, or never will be by this process."""
        self._waiting -= 1
        self._lost += not is_stored
        if not self._waiting:
            self._settled.set()

    async def stored(self, timeout_seconds: float) -> bool:
        """Wait for all events; return whether Redis has them all."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(timeout_seconds, 0)):
                await self._settled.wait()
        return not (self._waiting or self._lost)


class EventSink(Protocol):
    """Accepts events at once, without raising."""

    def offer(self, event: SupportsBytes, labels: tuple[str, ...] = (), receipt: Receipt | None = None) -> bool:
        """Queue an event, whose bytes are asked for when it is written; False if it was dropped."""


class Entry(NamedTuple):
    """One event in the queue."""

    event: SupportsBytes  # JSON; the flusher asks for the bytes once
    labels: tuple[str, ...]  # experiment and variant of the event, to count drops
    receipt: Receipt | None = None  # of the caller that waits for it


class KeepsEvents(Protocol):
    """Keeps events that could not be written before shutdown (service/store/spool.py)."""

    async def save(self, stream: str, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Keep events for the next start; return those that could not be kept. Never raises."""


class EventStream:
    """A bounded queue before one Redis stream. Only the flusher calls the methods other than `offer`.

    An event is written at least once: a batch whose reply was lost is written again, so that readers keep the first of
    one id.

    Args:
        client: its own timeouts bound each try.
        name: the stream's key.
        on_drop: called with an event's labels for each event that is dropped.
        on_trim: called with the number of entries that were trimmed.
        spool: keeps events that could not be written before shutdown.
        max_queue: maximum events in memory.
        max_length: entries kept in the stream, about (whole nodes are trimmed: exact trimming costs more).
        max_batch: events in one round trip.
        interval_seconds: how long an event may wait for others to be written with.
        observer: counts restarts of the flusher.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        *,
        on_drop: Callable[[tuple[str, ...]], None],
        on_trim: Callable[[int], None] = lambda _count: None,
        spool: KeepsEvents | None = None,
        max_queue: int = 10_000,
        max_length: int = 400_000,
        max_batch: int = 256,
        interval_seconds: float = 0.2,
        observer: TaskObserver = UNOBSERVED,
    ) -> None:
        self._client, self.name = client, name
        self._on_drop, self._on_trim, self._spool = on_drop, on_trim, spool
        self._max_queue, self._max_length, self._max_batch = max_queue, max_length, max_batch
        self._interval, self._observer = interval_seconds, observer
        self._queue: deque[Entry] = deque()
        self._hurry = asyncio.Event()
        self._closing = False
        self._task: Supervised | None = None

    def __len__(self) -> int:
        """Return how many events wait."""
        return len(self._queue)

    def offer(self, event: SupportsBytes, labels: tuple[str, ...] = (), receipt: Receipt | None = None) -> bool:
        """Queue an event without waiting; False if the queue is full or closing and the event is dropped."""
        if self._closing or len(self._queue) >= self._max_queue:
            self._on_drop(labels)
            return False
        self._queue.append(Entry(event, labels, receipt))
        if receipt is not None:
            receipt.taken()
        if receipt is not None or len(self._queue) >= self._max_batch:
            self._hurry.set()
        return True

    def start(self) -> None:
        """Start the flusher on the running event loop."""
        self._task = supervise("stream", self._run, self._observer, name=f"stream {self.name}")

    async def close(self, timeout_seconds: float = 2.0) -> None:
        """Stop accepting, write waiting events, and spool the rest after the timeout; without a spool, drop it."""
        self._closing = True
        self._hurry.set()
        if self._task is not None:
            await self._task.finish(timeout_seconds)
        left = [entry for waiting in self._queue if (entry := self._as_bytes(waiting)) is not None]
        self._queue.clear()
        _settle(left, is_stored=False)
        if left and self._spool is not None:
            left = list(await self._spool.save(self.name, left))
        for entry in left:
            self._on_drop(entry.labels)

    async def _run(self) -> None:
        failures = 0
        while self._queue or not self._closing:
            if not failures and len(self._queue) < self._max_batch and not self._closing:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        await self._hurry.wait()
            self._hurry.clear()
            if not self._queue or await self._flush():
                failures = 0
            else:
                await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
                failures += 1

    async def _flush(self) -> bool:
        """Write the oldest events; each leaves the queue only when Redis has accepted it, or never will."""
        batch = self._next_batch()
        if not batch:
            return True
        try:
            replies = await self._write(batch)
        except Exception as error:  # the edge of the flusher's task: it must continue after any error
            _log.warning("stream_write_failed", stream=self.name, error=type(error).__name__, waiting=len(self._queue))
            return False
        for _ in batch:
            self._queue.popleft()
        refused = self._sorted_out(batch, replies)
        self._queue.extendleft(reversed(refused))  # Redis may have room again, or be the primary again
        return not refused

    def _next_batch(self) -> list[Entry]:
        """Return the oldest events, as bytes from now on; one that cannot be written as bytes is dropped."""
        batch: list[Entry] = []
        while len(batch) < min(len(self._queue), self._max_batch):
            entry = self._as_bytes(self._queue[len(batch)])
            if entry is None:
                del self._queue[len(batch)]
            else:
                self._queue[len(batch)] = entry
                batch.append(entry)
        return batch

    def _as_bytes(self, entry: Entry) -> Entry | None:
        """Return an entry with its event as bytes; a fault in one event must not stop the others."""
        if type(entry.event) is bytes:
            return entry
        try:
            return entry._replace(event=bytes(entry.event))
        except Exception as error:
            _log.error("event_not_written", stream=self.name, error=type(error).__name__)
            self._give_up([entry])
            return None

    def _give_up(self, entries: Sequence[Entry]) -> None:
        _settle(entries, is_stored=False)
        for entry in entries:
            self._on_drop(entry.labels)

    def _sorted_out(self, batch: list[Entry], replies: list[Any]) -> list[Entry]:
        """Remove stored events and those that never can be; return the events to write again."""
        refused = []
        for entry, reply in zip(batch, replies, strict=True):
            if not isinstance(reply, Exception):
                _settle([entry], is_stored=True)
            elif is_wrong_type(reply):
                self._give_up([entry])
            else:
                refused.append((entry, reply))
        if refused:
            error = type(refused[0][1]).__name__
            _log.warning("stream_write_refused", stream=self.name, error=error, waiting=len(self._queue) + len(refused))
        return [entry for entry, _ in refused]

    async def _write(self, batch: list[Entry]) -> list[Any]:  # Any: an entry's id, or the error it met
        key, most = self.name.encode(), self._max_length
        commands = [add_command(key, bytes(entry.event), most) for entry in batch]
        *replies, trimmed = await self._client.run([*commands, Command(key, ("XTRIM", key, "MAXLEN", "~", most))])
        if isinstance(trimmed, int) and trimmed:
            self._on_trim(trimmed)
        return replies


def add_command(key: bytes, event: bytes, max_length: int) -> Command:
    """Return what adds an event to a stream; XADD's trim is only a backstop and counts nothing."""
    return Command(key, ("XADD", key, "MAXLEN", "~", int(max_length * _BACKSTOP), "*", EVENT_FIELD, event))


def _settle(entries: Sequence[Entry], *, is_stored: bool) -> None:
    for entry in entries:
        if entry.receipt is not None:
            entry.receipt.settle(is_stored)


def is_wrong_type(reply: object) -> bool:
    """Return whether the key has another type, which waiting does not repair."""
    return isinstance(reply, redis_errors.ResponseError) and str(reply).startswith("WRONGTYPE")
