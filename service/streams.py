"""Events to a Redis stream off the request's path: a bounded queue, its flusher, drops counted and not awaited.

A stream that is slow or gone must not slow a ranking or fill the memory. While Redis is away the queue holds what
fits; after that the newest events are dropped, because the first exposure of a unit is the one that the analysis keeps.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

import structlog
from redis import exceptions as redis_errors

from service.redis_client import Client, Command
from service.supervision import UNOBSERVED, Supervised, TaskObserver, supervise

EXPOSURE_STREAM: Final = "ab:exposure:v1"
FEEDBACK_STREAM: Final = "fb:activity:v1"
FIELD: Final = b"event"

_RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)  # between tries while Redis is away; the last one again and again

_log = structlog.get_logger(__name__)


class EventSink(Protocol):
    """Takes events, at once and without fail."""

    def offer(self, event: bytes, labels: tuple[str, ...] = ()) -> bool:
        """Take an event; False where it was dropped."""


class Entry(NamedTuple):
    """One event in the queue."""

    event: bytes  # JSON
    labels: tuple[str, ...]  # whose event it is, for counting drops: experiment and variant


class EventStream:
    """A bounded queue before one Redis stream. Everything but `offer` is the flusher's.

    An event is written at least once: a batch whose reply was lost is written again, so that readers keep the first of
    one id.

    Args:
        client: its own timeouts bound each try.
        name: the stream's key.
        on_drop: called with an event's labels for each event that is dropped.
        max_queue: events held in memory.
        max_length: entries kept in the stream, about (whole nodes are trimmed: exact trimming costs more).
        max_batch: events in one round trip.
        interval_seconds: how long an event may wait for company.
        observer: counts restarts of the flusher.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        *,
        on_drop: Callable[[tuple[str, ...]], None],
        max_queue: int = 10_000,
        max_length: int = 5_000_000,
        max_batch: int = 256,
        interval_seconds: float = 0.2,
        observer: TaskObserver = UNOBSERVED,
    ) -> None:
        self._client, self.name = client, name
        self._on_drop = on_drop
        self._max_queue, self._max_length, self._max_batch = max_queue, max_length, max_batch
        self._interval, self._observer = interval_seconds, observer
        self._queue: deque[Entry] = deque()
        self._full_batch = asyncio.Event()
        self._closing = False
        self._task: Supervised | None = None

    def __len__(self) -> int:
        """Return how many events wait."""
        return len(self._queue)

    def offer(self, event: bytes, labels: tuple[str, ...] = ()) -> bool:
        """Take an event without waiting; False where the queue is full or closing and the event is dropped."""
        if self._closing or len(self._queue) >= self._max_queue:
            self._on_drop(labels)
            return False
        self._queue.append(Entry(event, labels))
        if len(self._queue) >= self._max_batch:
            self._full_batch.set()
        return True

    def start(self) -> None:
        """Start the flusher on the running event loop."""
        self._task = supervise("stream", self._run, self._observer, name=f"stream {self.name}")

    async def close(self, timeout_seconds: float = 2.0) -> None:
        """Take nothing more, write what waits, and drop and count what is left after the timeout."""
        self._closing = True
        self._full_batch.set()
        if self._task is not None:
            await self._task.finish(timeout_seconds)
        for entry in self._queue:
            self._on_drop(entry.labels)
        self._queue.clear()

    async def _run(self) -> None:
        failures = 0
        while self._queue or not self._closing:
            if len(self._queue) < self._max_batch and not self._closing:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._full_batch.wait(), self._interval)
            self._full_batch.clear()
            if not self._queue or await self._flush():
                failures = 0
            else:
                await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
                failures += 1

    async def _flush(self) -> bool:
        """Write the oldest events; they leave the queue only when Redis has taken or refused them one by one."""
        batch = [self._queue[place] for place in range(min(len(self._queue), self._max_batch))]
        try:
            replies = await self._write(batch)
        except Exception as error:  # the edge of the flusher's task: whatever it is, it must go on
            _log.warning("stream_write_failed", stream=self.name, error=type(error).__name__, waiting=len(self._queue))
            return False
        refused = [entry for entry, reply in zip(batch, replies, strict=True) if isinstance(reply, Exception)]
        if len(refused) == len(batch) and not _is_wrong_type(replies[0]):
            _log.warning("stream_write_refused", stream=self.name, error=type(replies[0]).__name__)
            return False
        for _ in batch:
            self._queue.popleft()
        for entry in refused:
            self._on_drop(entry.labels)
        return True

    async def _write(self, batch: list[Entry]) -> list[Any]:  # Any: an entry's id, or the error it met
        key, trim = self.name.encode(), ("MAXLEN", "~", self._max_length)
        return await self._client.run([Command(key, ("XADD", key, *trim, "*", FIELD, entry.event)) for entry in batch])


def _is_wrong_type(reply: object) -> bool:
    """Say whether the key holds something else: no waiting will mend that."""
    return isinstance(reply, redis_errors.ResponseError) and str(reply).startswith("WRONGTYPE")
