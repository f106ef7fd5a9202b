"""Exemplars: of each bucket of a histogram, the latest traced request that fell into it."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from service.metrics.values import Labels

Place = tuple[str, Labels, int]  # metric, labels, bucket


class Seen(NamedTuple):
    """One observation of a traced request."""

    at: float  # seconds since the epoch
    value: float
    trace_id: str


class Exemplars:
    """The exemplars of one process: at most one for each bucket of a series."""

    def __init__(self) -> None:
        self._seen: dict[Place, Seen] = {}

    def note(self, metric: str, labels: Labels, bounds: Sequence[float], value: float, trace_id: str) -> None:
        """Note a traced observation of a histogram."""
        self._seen[metric, labels, bisect_left(bounds, value)] = Seen(time.time(), value, trace_id)

    def dump(self) -> list[tuple[Place, list[float | str]]]:
        """Return all, for JSON; may be called from any thread."""
        return [(place, [*seen]) for place, seen in list(self._seen.items())]


def merged(dumps: Iterable[Iterable[tuple[Sequence[object], Sequence[object]]]]) -> dict[Place, Seen]:
    """Return the latest of each bucket, from the dumps of some processes."""
    latest: dict[Place, Seen] = {}
    for dump in dumps:
        for (metric, labels, bucket), seen in dump:
            place: Place = (metric, tuple(labels), bucket)  # type: ignore[assignment,arg-type]  # JSON of our own
            latest[place] = max(latest.get(place, Seen(0, 0, "")), Seen(*seen))  # type: ignore[arg-type]
    return latest
