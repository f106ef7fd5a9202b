"""Ranking metrics on numbers of better and equal items; numpy only.

For one query with the positive's score p: g = the number of negatives that score more, e = the number that score
exactly the same. Under ties the positive's rank is uniform on {g+1, ..., g+e+1}, and every metric is its expected
value: constant scores earn as much as a random order. A score that is not a finite number fails the run.
"""

from __future__ import annotations

from math import comb, log2

import numpy as np
from numpy.typing import NDArray

from contract.command_line import CommandError

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class MetricsError(CommandError, ValueError):
    """The scores cannot be ranked."""


def better_and_equal(
    scores: NDArray[np.floating], targets: Counts, allowed: NDArray[np.bool_] | None = None
) -> tuple[Counts, Counts]:
    """Return g and e (B,) of the target column (B,) among the columns of scores (B, N).

    Args:
        scores: of all columns.
        targets: the target's column, which is always allowed.
        allowed: (B, N), the columns that are candidates; None = all.

    Raises:
        MetricsError: a score is NaN or infinite.
    """
    bad = ~np.isfinite(scores).all(axis=1)
    if bool(bad.any()):
        raise MetricsError(f"{int(bad.sum())} of {len(scores)} rows have non-finite scores")
    positive = scores[np.arange(len(scores)), targets][:, None]
    greater, equal = scores > positive, scores == positive
    if allowed is not None:
        greater &= allowed
        equal &= allowed
    return np.count_nonzero(greater, axis=1), np.count_nonzero(equal, axis=1) - 1  # without the positive itself


def hit_rate(g: Counts, e: Counts, k: int) -> Floats:
    """Return the expected HR@k of each query."""
    return np.asarray(np.clip(k - g, 0, e + 1) / (e + 1), dtype=np.float64)


def ndcg(g: Counts, e: Counts, k: int) -> Floats:
    """Return the expected NDCG@k of each query with its single positive; the ideal is 1."""
    return _expected(1 / np.log2(np.arange(1, k + 1) + 1), g, e)


def mrr(g: Counts, e: Counts, k: int) -> Floats:
    """Return the expected reciprocal rank of each query, 0 beyond k."""
    return _expected(1 / np.arange(1, k + 1), g, e)


def _expected(gains: Floats, g: Counts, e: Counts) -> Floats:
    """Return the mean gain over the ranks g+1 ... g+e+1; gains (k,) by rank, 0 beyond."""
    summed = np.concatenate(([0.0], np.cumsum(gains)))
    first, last = np.minimum(g, len(gains)), np.minimum(g + e + 1, len(gains))
    return np.asarray((summed[last] - summed[first]) / (e + 1), dtype=np.float64)


def auc(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """Return the share of (positive, negative) pairs in the right order, ties one half; NaN without both labels.

    Raises:
        MetricsError: a score is NaN or infinite.
    """
    if not bool(np.isfinite(scores).all()):
        raise MetricsError("some scores are not finite")
    positives = int(labels.sum())
    pairs = positives * (len(labels) - positives)
    if not pairs:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # mean rank of each group of equal scores, from 1
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / pairs)


def pool_auc(positives: NDArray[np.floating], negatives: NDArray[np.floating]) -> float:
    """Return the AUC of a list, as `auc`; much faster for few positives, because it only sorts."""
    ordered = np.sort(negatives)
    below, not_above = (np.searchsorted(ordered, positives, side=side) for side in ("left", "right"))
    return float((below + not_above).mean() / 2 / len(negatives))


def auc_by_user(users: Counts, scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> tuple[Counts, Floats]:
    """Return the rows and the AUC of every user, in the order of their indices; NaN if a user has one label only."""
    order = np.argsort(users, kind="stable")
    _, starts, rows = np.unique(users[order], return_index=True, return_counts=True)
    parts = [order[start : start + count] for start, count in zip(starts, rows, strict=True)]
    return rows.astype(np.int64), np.array([auc(scores[part], labels[part]) for part in parts], dtype=np.float64)


def list_auc(g: Counts, e: Counts, negatives: int) -> Floats:
    """Return the AUC of lists of one positive and `negatives`: the share that scores less, ties one half."""
    return np.asarray(1 - (g + e / 2) / max(negatives, 1), dtype=np.float64)


def best_of_many(
    positives: NDArray[np.floating], negatives: NDArray[np.floating], k: int
) -> tuple[float, float, float]:
    """Return the expected NDCG@k, HIT@k and MRR@k of one list in which only the first of several positives counts.

    Where t entries share the best positive's score and p of them are positives, the first positive's place among them
    is j with probability C(t-j, p-1) / C(t, p).

    Raises:
        MetricsError: a score is NaN or infinite.
    """
    if not (bool(np.isfinite(positives).all()) and bool(np.isfinite(negatives).all())):
        raise MetricsError("some scores are not finite")
    best = positives.max()
    g, p = int((negatives > best).sum()), int((positives == best).sum())
    t = p + int((negatives == best).sum())
    places = range(1, min(t - p + 1, k - g) + 1)
    chances = [(g + j, comb(t - j, p - 1) / comb(t, p)) for j in places]
    return (
        sum(chance / log2(rank + 1) for rank, chance in chances),
        sum(chance for _, chance in chances),
        sum(chance / rank for rank, chance in chances),
    )
