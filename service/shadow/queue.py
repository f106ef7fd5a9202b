"""Rankings that wait for one shadow, and the task that has them scored.

The queue is bounded, and a ranking that finds no room, or has waited too long, is dropped and counted. The process is
started with the first ranking, started again after a fault with a growing pause, and ended when no file names the
shadow any more.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from contract.behaviours.records import Records
from service.flow.supervision import Supervised, supervise
from service.metrics import Metrics
from service.shadow.link import Link, ShadowFailed
from service.shadow.messages import Asked

MAX_ROWS: Final = 8  # of a batch
_PAUSES: Final = (1.0, 5.0, 30.0, 60.0)  # before a process is started again; the last one repeats
_LOOK_SECONDS: Final = 2.0  # between looks at whether the shadow is still named, while nothing waits

_log = structlog.get_logger(__name__)


class Ranked(NamedTuple):
    """A ranking that was answered."""

    served: str  # the bundle whose scores are in the answer, `model@version`
    seconds: float  # that its run took
    user_id: str
    records: Records  # as they were read for the answer
    item_ids: Sequence[str]  # of all candidates
    places: NDArray[np.int64]  # (N,) of those that have a score
    scores: NDArray[np.float32]  # (N,)
    request_time_ms: int
    context: dict[str, object]


class ShadowQueue:
    """One shadow.

    Args:
        name: of its bundle, `model@version`.
        start: starts its process.
        is_named: whether a file in force still names it.
        observer: counts.
        size: rankings that may wait.
        seconds: how long a ranking may wait for its scores, from the answer on.
        pauses: before a process is started again; the last one repeats.
        look_seconds: between looks at whether the shadow is still named, while nothing waits.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Awaitable[Link]],
        is_named: Callable[[], bool],
        observer: Metrics,
        *,
        size: int,
        seconds: float,
        pauses: Sequence[float] = _PAUSES,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._name, self._start, self._is_named, self._observer = name, start, is_named, observer
        self._size, self._seconds, self._pauses, self._look_seconds = size, seconds, pauses, look_seconds
        self._waiting: deque[tuple[float, Ranked]] = deque()
        self._has_some = asyncio.Event()
        self._link: Link | None = None
        self._faults = 0
        self._task: Supervised = supervise("shadow", self._work, observer, name=f"shadow-{name}")

    @property
    def process_id(self) -> int | None:
        """Return the id of the process; None while there is none."""
        return self._link.process_id if self._link is not None else None

    def offer(self, ranked: Ranked) -> None:
        """Take a ranking, or drop it when too many wait."""
        if len(self._waiting) >= self._size:
            self._observer.shadow_dropped(ranked.served, self._name, "full")
            return
        self._waiting.append((time.monotonic(), ranked))
        self._has_some.set()

    async def close(self) -> None:
        """End the process; rankings that wait are dropped."""
        await self._task.cancel()
        await self._end()

    async def _work(self) -> None:
        while True:
            await self._wait()
            batch = self._next()
            if not batch:
                continue
            try:
                await self._score(batch)
                self._faults = 0
            except ShadowFailed as error:
                await self._failed(batch, error)

    async def _wait(self) -> None:
        """Wait for a ranking; end the process meanwhile if nothing names the shadow any more."""
        while not self._waiting:
            self._has_some.clear()
            try:
                async with asyncio.timeout(self._look_seconds):
                    await self._has_some.wait()
            except TimeoutError:
                if not self._is_named():
                    await self._end()

    def _next(self) -> list[Ranked]:
        """Return the oldest rankings that are not too late."""
        batch: list[Ranked] = []
        least = time.monotonic() - self._seconds
        while self._waiting and len(batch) < MAX_ROWS:
            began, ranked = self._waiting.popleft()
            if began < least:
                self._observer.shadow_dropped(ranked.served, self._name, "late")
            else:
                batch.append(ranked)
        return batch

    async def _score(self, batch: Sequence[Ranked]) -> None:
        if self._link is None:
            self._link = await self._start()
            _log.info("shadow_started", bundle=self._name, process_id=self._link.process_id)
        answered = await self._link.ask([_asked(ranked) for ranked in batch], self._seconds)
        for ranked, comparison in zip(batch, answered.comparisons, strict=True):
            if comparison is None:
                self._observer.shadow_failed(ranked.served, self._name)
            else:
                self._observer.shadow_compared(ranked.served, self._name, comparison, ranked.seconds, answered.seconds)

    async def _failed(self, batch: Sequence[Ranked], error: ShadowFailed) -> None:
        await self._end()
        for ranked in batch:
            self._observer.shadow_failed(ranked.served, self._name)
        pause = self._pauses[min(self._faults, len(self._pauses) - 1)]
        self._faults += 1
        _log.warning("shadow_failed", bundle=self._name, error=str(error), faults=self._faults, pause_s=pause)
        await asyncio.sleep(pause)

    async def _end(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()


def _asked(ranked: Ranked) -> Asked:
    return Asked(
        ranked.user_id,
        ranked.records.tobytes(),
        [ranked.item_ids[place] for place in ranked.places.tolist()],
        ranked.scores.tobytes(),
        ranked.request_time_ms,
        ranked.context,
    )
