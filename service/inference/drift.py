"""The spread of one bundle's scores and inputs, since it was loaded and in the last minutes.

The event loop notes a sample of each batch, and counts what it noted some at a time: numpy's calls cost more than their
work on one ranking. Every ranking and every candidate has the same expected count of 1, because a noted one counts for
as many as the sample leaves out. Any thread may read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from random import random
from threading import Lock
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.bundles.bundle import Bundle
from service.inference.inputs import RankRow
from service.inference.scorer import ScoredRow
from service.inference.spreads import Counts, source_of, spreads_of, stability_index
from service.metrics.values import Labels

WINDOW_SECONDS: Final = 600.0
LEAST_RECENT: Final = 100  # rankings of the window, for an index
LEAST_EARLIER: Final = 1_000  # rankings before the window, to be a reference
_SNAPSHOT_SECONDS: Final = 60.0
_PENDING: Final = 64  # rankings
ROWS: Final = 4  # rankings of one batch that are noted
RATE: Final = 200  # rankings of a second that are noted; as many as came in the last second are expected
SCORES: Final = 16  # scores of one ranking that are noted
_ITEMS: Final = (("candidate", "yes"), ("candidate", "no"), ("behaviour", "yes"), ("behaviour", "no"))


class _Noted(NamedTuple):
    """One sampled ranking, counted `weight` times, and a sample of its scores, each counted `every` times."""

    scores: NDArray[np.float32]
    every: int
    used: int
    age_seconds: int  # of the newest behaviour that was read; -1 without one
    items: tuple[int, int, int, int]  # as _ITEMS
    weight: int


class Drift:
    """Counts the scores, the unknown items, and the lengths and ages of the histories of one bundle.

    Args:
        bundle: verified; the reference is its record of validation, or its golden rows.
        now: seconds of a clock that never goes back.
        draw: returns a random number of at least 0 and less than 1.
    """

    def __init__(
        self, bundle: Bundle, now: Callable[[], float] = time.monotonic, draw: Callable[[], float] = random
    ) -> None:
        self._spreads, self._now, self._draw = spreads_of(bundle), now, draw
        self._source, self._record = source_of(bundle), bundle.reference
        stops = list(accumulate([spread.size for spread in self._spreads], initial=0))
        self._parts = [slice(*ends) for ends in pairwise(stops)]
        # Buckets, then items, then how many observations of each spread were noted.
        self._counts: Counts = np.zeros(stops[-1] + len(_ITEMS) + len(self._spreads), dtype=np.int64)
        self._snapshots: deque[tuple[float, Counts]] = deque()  # the counts before what was counted from then on
        self._pending: deque[_Noted] = deque()
        self._lock = Lock()
        self._step, self._came, self._next_look = 1, 0, 0.0

    def note(self, rows: Sequence[RankRow], results: Sequence[ScoredRow | Exception]) -> None:
        """Note some rankings of a batch, each as likely as the others; rows that failed are not counted."""
        step = max(self._step_of(len(rows)), -(-len(rows) // ROWS))
        for place in range(int(self._draw() * step), len(rows), step):
            result = results[place]
            if isinstance(result, ScoredRow):
                self._pending.append(self._noted(rows[place], result, step))
        if len(self._pending) >= _PENDING:
            with self._lock:
                self._count()

    def _step_of(self, rows: int) -> int:
        """Return how many times a sampled ranking is counted, by how many came in the last second."""
        self._came += rows
        now = self._now()
        if now >= self._next_look:
            self._step = max(1, round(self._came / RATE)) if now < self._next_look + 1 else 1
            self._came, self._next_look = 0, now + 1
        return self._step

    def _noted(self, row: RankRow, result: ScoredRow, weight: int) -> _Noted:
        every = -(-len(result.scores) // SCORES) or 1
        scores = result.scores[int(self._draw() * every) :: every].copy()  # a view would keep those of the whole batch
        newest = result.newest_ms
        age = -1 if newest is None else max(0, row.request_time_ms - newest) // 1000
        known = result.used + result.truncated
        items = (len(row.candidates), row.unknown, known, result.unknown)
        return _Noted(scores, every, result.used, age, items, weight)

    def observed(self) -> dict[Labels, float]:
        """Return the observations by quantity and bucket, since the bundle was loaded."""
        counts = self._read()[0]
        return {labels: float(counts[place]) for place, labels in enumerate(self._labels())}

    def items(self) -> dict[Labels, float]:
        """Return candidates and behaviours, by whether the bundle knows the item, since it was loaded."""
        counts = self._read()[0]
        first = self._parts[-1].stop
        return dict(zip(_ITEMS, counts[first : first + len(_ITEMS)].tolist(), strict=True))

    def reference(self) -> dict[Labels, float]:
        """Return the share of each bucket in the bundle's reference."""
        found: dict[Labels, float] = {}
        for spread in self._spreads:
            if spread.expected is not None:
                shares = (spread.expected / spread.expected.sum()).tolist()
                found |= {(spread.name, label): share for label, share in zip(spread.labels, shares, strict=True)}
        return found

    def unknown(self) -> dict[Labels, float]:
        """Return the shares of unknown candidates and behaviours on validation, if the bundle has the record."""
        if self._record is None:
            return {}
        shares = {
            "candidate": self._record.candidates.unknown_share,
            "behaviour": self._record.behaviours.unknown_share,
        }
        return {(kind,): share for kind, share in shares.items() if share is not None}

    def indices(self) -> dict[Labels, float]:
        """Return the stability indices of the window against each reference; none where there are too few rankings."""
        counts, base = self._read()
        recent = counts - base
        found: dict[Labels, float] = {}
        for number, (spread, part) in enumerate(zip(self._spreads, self._parts, strict=True)):
            if not self._suffices(recent, number, LEAST_RECENT):
                continue
            noted = self._noted_in(recent)[number]
            if spread.expected is not None:
                least = min(noted, spread.expected.sum())
                found[spread.name, self._source] = stability_index(spread.expected, recent[part], least)
            if self._suffices(base, number, LEAST_EARLIER):
                least = min(noted, self._noted_in(base)[number])
                found[spread.name, "earlier"] = stability_index(base[part], recent[part], least)
        return found

    def _suffices(self, counts: Counts, number: int, least: int) -> bool:
        """Return whether enough rankings and enough observations were noted; each ranking has one length."""
        noted = self._noted_in(counts)
        return bool(noted[1] >= least and noted[number] >= least)

    def _noted_in(self, counts: Counts) -> Counts:
        """Return how many observations of each spread were noted; each may stand for several."""
        return counts[-len(self._spreads) :]

    def _labels(self) -> Iterator[Labels]:
        return ((spread.name, label) for spread in self._spreads for label in spread.labels)

    def _read(self) -> tuple[Counts, Counts]:
        """Return the counts, and what they were when the window began."""
        with self._lock:
            self._count()
            began = self._now() - WINDOW_SECONDS
            base = next((counts for at, counts in self._snapshots if at > began), self._counts)
            return self._counts.copy(), base.copy()

    def _count(self) -> None:
        """Count what is pending; the lock is held."""
        pending = [self._pending.popleft() for _ in range(len(self._pending))]  # the event loop may add some meanwhile
        if not pending:
            return
        self._keep_snapshot()
        scores, lengths, ages = self._spreads
        sizes = [len(one.scores) for one in pending]
        numbers = np.array([(one.used, one.age_seconds, one.weight, one.weight * one.every) for one in pending])
        used, age, weights, of_scores = numbers.T
        has_age = age >= 0
        found = (
            scores.tally(np.concatenate([one.scores for one in pending]), of_scores.repeat(sizes)),
            lengths.tally(used, weights),
            ages.tally(age[has_age], weights[has_age]),
            weights @ np.array([one.items for one in pending], dtype=np.int64),
            [sum(sizes), len(pending), int(has_age.sum())],
        )
        self._counts += np.concatenate(found)

    def _keep_snapshot(self) -> None:
        """Keep the counts once a minute; forget those from before the window."""
        now = self._now()
        if not self._snapshots or now - self._snapshots[-1][0] >= _SNAPSHOT_SECONDS:
            self._snapshots.append((now, self._counts.copy()))
        while self._snapshots[0][0] <= now - WINDOW_SECONDS:
            self._snapshots.popleft()
