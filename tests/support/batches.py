"""A batcher with entries, runs and an observer that show what it does."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from service.flow.batcher import Batcher
from tests.support.fakes import TaskCounts
from tests.support.waiting import until


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
        async with asyncio.timeout(60):
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
