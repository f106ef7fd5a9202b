"""Counters, gauges and histograms as plain numbers: only the event loop's thread changes them, so they need no lock.

Another thread may read them at any time: it copies each number or list in one step.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Generic, Literal, TypeVar

Reading = float | list[float]  # of a histogram: the sum, then a count for each bucket, not cumulative
Across = Literal["sum", "min", "max"]  # how the readings of several processes become one
Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Counter:
    """A number that grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        """Add."""
        self.value += amount

    def read(self) -> float:
        """Return the number."""
        return self.value


class SharedCounter(Counter):
    """A counter for every thread: `+=` is a read and a write, and another thread may run between them."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()

    def inc(self, amount: float = 1) -> None:
        """Add."""
        with self._lock:
            self.value += amount


class Gauge:
    """A number that grows and shrinks."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def read(self) -> float:
        """Return the number."""
        return self.value


class Watched:
    """A number that its owner keeps, asked for at each scrape."""

    __slots__ = ("read",)

    def __init__(self, read: Callable[[], float]) -> None:
        self.read = read


class Histogram:
    """How many observations fell into each bucket, and their sum.

    Args:
        bounds: the largest value of each bucket but the last, ascending.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum: float = 0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add(self, counts: Sequence[int], total: float) -> None:
        """Count observations that are already in buckets, and their sum."""
        self.counts = [one + more for one, more in zip(self.counts, counts, strict=True)]
        self.sum += total

    def read(self) -> list[float]:
        """Return the sum and the counts."""
        return [self.sum, *self.counts]


class Made(dict[K, T], Generic[K, T]):
    """A dictionary whose values are made when they are first asked for; a value that is there costs one look-up.

    Args:
        make: makes the value of a key.
    """

    def __init__(self, make: Callable[[K], T]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> T:
        value = self[key] = self._make(key)
        return value
