"""How the scores of two bundles for the same candidates compare: their order, and their differences.

Symbols: N candidates of one ranking that both bundles have scored.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.metrics.buckets import DIFFERENCES

TOP: Final = 10
"""The length of the heads of both lists that are compared: k of overlap@k."""

Scores = NDArray[np.float32]


class Comparison(NamedTuple):
    """One ranking, scored by both bundles."""

    scored: int  # N
    correlation: float | None  # Spearman's, of ranks; None if one bundle gives all candidates the same score
    overlap: float | None  # the share of the served bundle's best TOP candidates that the shadow has among its best
    above: Differences  # of candidates with at least the served bundle's score
    below: Differences  # of the others


class Differences(NamedTuple):
    """Differences of scores, without their sign."""

    total: float
    squares: float  # the sum of their squares
    buckets: tuple[int, ...]  # candidates by difference, len(DIFFERENCES) + 1


def compare(served: Scores, shadow: Scores) -> Comparison:
    """Compare the scores (N,) of the same candidates, all finite."""
    found = shadow.astype(np.float64) - served.astype(np.float64)
    return Comparison(
        len(served),
        _spearman(served, shadow),
        _overlap(served, shadow) if len(served) else None,
        _differences(found[found >= 0]),
        _differences(-found[found < 0]),
    )


def _differences(found: NDArray[np.float64]) -> Differences:
    buckets = np.bincount(np.searchsorted(DIFFERENCES, found, side="left"), minlength=len(DIFFERENCES) + 1)
    return Differences(float(found.sum()), float((found * found).sum()), tuple(buckets.tolist()))


def _spearman(one: Scores, other: Scores) -> float | None:
    """Return the correlation of the ranks; equal scores share the mean of their ranks."""
    first, second = (ranks - ranks.mean() for ranks in (_ranks(one), _ranks(other))) if len(one) > 1 else (None, None)
    if first is None or second is None:
        return None
    scale = float(np.sqrt((first * first).sum() * (second * second).sum()))
    return min(max(float((first * second).sum()) / scale, -1.0), 1.0) if scale else None


def _ranks(scores: Scores) -> NDArray[np.float64]:
    _, groups, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    stops = np.cumsum(sizes)
    return np.asarray((stops - (sizes - 1) / 2)[groups], dtype=np.float64)


def _overlap(one: Scores, other: Scores) -> float:
    """Return the share of the best candidates of one that are among the best of the other; of ties, the earlier one."""
    heads = [set(np.argsort(-scores, kind="stable")[:TOP].tolist()) for scores in (one, other)]
    return len(heads[0] & heads[1]) / len(heads[0])
