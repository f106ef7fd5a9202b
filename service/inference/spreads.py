"""Buckets of a bundle's scores and inputs, its reference in them, and an index of the distance between two counts.

Symbols: K buckets, one more than the edges between them.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.bundle.reference import AGES, LENGTHS, BinnedWhole, Reference
from service.bundles.bundle import Bundle

SCORE_BUCKETS: Final = 10
_LENGTHS: Final = np.array(LENGTHS, dtype=np.int64)
_AGES: Final = np.array(AGES, dtype=np.int64)
_LEAST: Final = 0.5  # observations of the smaller sample: a smaller share counts as this one

Counts = NDArray[np.int64]

Source = Literal["validation", "golden"]
"""Where a bundle's reference comes from: its file, or its golden rows if it has none."""


class Spread(NamedTuple):
    """The buckets of one quantity."""

    name: str
    edges: NDArray[np.float32] | NDArray[np.int64]  # (K - 1,) the largest value of each bucket but the last
    expected: Counts | None  # (K,) of the bundle's reference; None if it does not have the quantity

    @property
    def size(self) -> int:
        """Return K."""
        return len(self.edges) + 1

    @property
    def labels(self) -> list[str]:
        """Return the largest value of each bucket as text."""
        return [*(str(edge) for edge in self.edges), "+Inf"]

    def tally(self, values: NDArray[np.float32] | NDArray[np.int64], weights: Counts | None = None) -> Counts:
        """Return how many values are in each bucket (K,), a value with a weight as so many."""
        places = self.edges.searchsorted(values, side="left")
        return np.bincount(places, weights, minlength=self.size).astype(np.int64)


def source_of(bundle: Bundle) -> Source:
    """Return where the reference of a bundle comes from."""
    return "golden" if bundle.reference is None else "validation"


def spreads_of(bundle: Bundle) -> tuple[Spread, Spread, Spread]:
    """Return the spreads of scores, of lengths of histories, and of ages (s) of newest behaviours."""
    if bundle.reference is not None:
        return _of_reference(bundle.reference)
    return _scores(bundle.golden["scores"]), _lengths(bundle), Spread("age", _AGES, None)


def stability_index(reference: Counts, counts: Counts, least: int) -> float:
    """Return the population stability index of two counts (K,): 0 for equal shares, at least 0 for all others.

    No share is taken to be less than half an observation of the smaller sample: an empty bucket would make it infinite.

    Args:
        reference: counts.
        counts: to be compared with them.
        least: observations of the smaller sample; one may count for several.
    """
    floor = _LEAST / least
    expected, found = np.maximum(reference / reference.sum(), floor), np.maximum(counts / counts.sum(), floor)
    return float(((found - expected) * np.log(found / expected)).sum())


def _of_reference(reference: Reference) -> tuple[Spread, Spread, Spread]:
    scores = reference.scores
    edges = np.array(scores.edges, dtype=np.float32)
    ages = Spread("age", _AGES, None) if reference.ages is None else _whole("age", reference.ages)
    return Spread("score", edges, _counts(scores.counts)), _whole("length", reference.lengths), ages


def _whole(name: str, binned: BinnedWhole) -> Spread:
    return Spread(name, np.array(binned.edges, dtype=np.int64), _counts(binned.counts))


def _counts(counts: tuple[int, ...]) -> Counts:
    return np.array(counts, dtype=np.int64)


def _scores(golden: NDArray[np.float32]) -> Spread:
    """Return buckets with about the same number of golden scores; fewer buckets if many of them are equal."""
    shares = np.arange(1, SCORE_BUCKETS) / SCORE_BUCKETS
    edges = np.unique(np.quantile(golden, shares, method="inverted_cdf")).astype(np.float32)
    spread = Spread("score", edges, None)
    return spread._replace(expected=spread.tally(golden))


def _lengths(bundle: Bundle) -> Spread:
    spread = Spread("length", _LENGTHS, None)
    items = bundle.golden.get("encode.items")
    return spread if items is None else spread._replace(expected=spread.tally((items > 0).sum(axis=1)))
