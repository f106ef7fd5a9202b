"""The spread of one bundle's scores and inputs, since it was loaded and in the last minutes.

The event loop notes rankings, and counts them some at a time: numpy's calls cost more than their work on one ranking.
Any thread may read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
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
_ITEMS: Final = (("candidate", "yes"), ("candidate", "no"), ("behaviour", "yes"), ("behaviour", "no"))


class _Noted(NamedTuple):
    """One ranking."""

    scores: NDArray[np.float32]
    used: int
    age_seconds: int  # of the newest behaviour that was read; -1 without one
    items: tuple[int, int, int, int]  # as _ITEMS


class Drift:
    """Counts the scores, the unknown items, and the lengths and ages of the histories of one bundle.

    Args:
        bundle: verified; the reference is its record of validation, or its golden rows.
        now: seconds of a clock that never goes back.
    """

    def __init__(self, bundle: Bundle, now: Callable[[], float] = time.monotonic) -> None:
        self._spreads, self._now = spreads_of(bundle), now
        self._source, self._record = source_of(bundle), bundle.reference
        stops = list(accumulate([spread.size for spread in self._spreads], initial=0))
        self._parts = [slice(*ends) for ends in pairwise(stops)]
        self._counts: Counts = np.zeros(stops[-1] + len(_ITEMS), dtype=np.int64)
        self._snapshots: deque[tuple[float, Counts]] = deque()  # the counts before what was counted from then on
        self._pending: list[_Noted] = []
        self._lock = Lock()

    def note(self, rows: Sequence[RankRow], results: Sequence[ScoredRow | Exception]) -> None:
        """Note a batch; rows that failed are not counted."""
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, ScoredRow):
                self._pending.append(_noted(row, result))
        if len(self._pending) >= _PENDING:
            with self._lock:
                self._count()

    def observed(self) -> dict[Labels, float]:
        """Return the observations by quantity and bucket, since the bundle was loaded."""
        counts = self._read()[0]
        return {labels: float(counts[place]) for place, labels in enumerate(self._labels())}

    def items(self) -> dict[Labels, float]:
        """Return candidates and behaviours, by whether the bundle knows the item, since it was loaded."""
        counts = self._read()[0]
        return dict(zip(_ITEMS, counts[-len(_ITEMS) :].tolist(), strict=True))

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
        for spread, part in zip(self._spreads, self._parts, strict=True):
            if not self._suffices(recent, part, LEAST_RECENT):
                continue
            if spread.expected is not None:
                found[spread.name, self._source] = stability_index(spread.expected, recent[part])
            if self._suffices(base, part, LEAST_EARLIER):
                found[spread.name, "earlier"] = stability_index(base[part], recent[part])
        return found

    def _suffices(self, counts: Counts, part: slice, least: int) -> bool:
        """Return whether there are enough rankings and enough observations; each ranking has one length."""
        return bool(counts[self._parts[1]].sum() >= least and counts[part].sum() >= least)

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
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        self._keep_snapshot()
        scores, lengths, ages = self._spreads
        numbers = np.array([(one.used, one.age_seconds) for one in pending], dtype=np.int64)
        found = (
            scores.tally(np.concatenate([one.scores for one in pending])),
            lengths.tally(numbers[:, 0]),
            ages.tally(numbers[numbers[:, 1] >= 0, 1]),
            np.array([one.items for one in pending], dtype=np.int64).sum(axis=0),
        )
        self._counts += np.concatenate(found)

    def _keep_snapshot(self) -> None:
        """Keep the counts once a minute; forget those from before the window."""
        now = self._now()
        if not self._snapshots or now - self._snapshots[-1][0] >= _SNAPSHOT_SECONDS:
            self._snapshots.append((now, self._counts.copy()))
        while self._snapshots[0][0] <= now - WINDOW_SECONDS:
            self._snapshots.popleft()


def _noted(row: RankRow, result: ScoredRow) -> _Noted:
    newest = result.newest_ms
    age = -1 if newest is None else max(0, row.request_time_ms - newest) // 1000
    known = result.used + result.truncated
    return _Noted(result.scores, result.used, age, (len(row.candidates), row.unknown, known, result.unknown))
