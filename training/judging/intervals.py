"""Differences between systems, paired by user: users are drawn again with replacement, and seeds too.

An interval over users only answers: would other users show this difference between these trained weights? An interval
over seeds and users answers: would other users and other seeds of the same recipes show it? Two or three seeds are few,
so the second interval is still too narrow.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.judging.metrics import Floats

Interval = tuple[float, float, float]
"""Mean difference, and the ends of its 95% percentile bootstrap interval."""

_RESAMPLES: Final = 2000
_KEPT: Final = 64  # means over seeds drawn again; three seeds can be drawn in ten ways


def interval(system: Floats, reference: Floats, seed: int = 0, resamples: int = _RESAMPLES) -> Interval:
    """Return the mean paired difference over users (U,), and its interval over users."""
    difference = system - reference
    rng = np.random.default_rng(seed)
    drawn = np.array([difference[rng.integers(len(difference), size=len(difference))].mean() for _ in range(resamples)])
    return _with_ends(difference.mean(), drawn)


def interval_with_seeds(system: Floats, reference: Floats, seed: int = 0, resamples: int = _RESAMPLES) -> Interval:
    """Return the mean difference of systems (S, U) and (S', U), and its interval over seeds and users.

    Each resample draws seeds of either system independently, and one set of users for both.
    """
    rng = np.random.default_rng(seed)
    mean_of = lru_cache(_KEPT)(lambda place, seeds: (system, reference)[place][list(seeds)].mean(axis=0))
    drawn = np.empty(resamples)
    for resample in range(resamples):
        ours, theirs = (
            mean_of(place, tuple(sorted(rng.integers(len(one), size=len(one)).tolist())))
            for place, one in enumerate((system, reference))
        )
        users = rng.integers(system.shape[1], size=system.shape[1])
        drawn[resample] = ours[users].mean() - theirs[users].mean()
    return _with_ends(system.mean() - reference.mean(), drawn)


def per_user_means(columns: dict[str, Floats]) -> dict[str, Floats]:
    """Return each user's mean over their queries, for metrics that are plain means; users in index order."""
    return {metric: _by_user(columns, metric) for metric in _plain(columns)}


def _with_ends(mean: np.floating, drawn: Floats) -> Interval:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(mean), float(low), float(high)


def _plain(columns: dict[str, Floats]) -> list[str]:
    """Return the metrics that are plain means over queries."""
    metrics = [name for name in columns if _own(name) != "user" and "weight." not in name]
    return [name for name in metrics if _beside(name, f"weight.{_own(name)}") not in columns]


def _by_user(columns: dict[str, Floats], metric: str) -> Floats:
    values, users = columns[metric], columns[_beside(metric, "user")].astype(np.int64)
    defined = ~np.isnan(values)
    return _per_user(values[defined], users[defined])


def _own(name: str) -> str:
    return name.rpartition(".")[2]


def _beside(metric: str, column: str) -> str:
    """Return the name of another column of a metric's view."""
    view, dot, _ = metric.rpartition(".")
    return f"{view}{dot}{column}"


def _per_user(values: Floats, users: NDArray[np.int64]) -> Floats:
    counts = np.bincount(users)
    means = np.bincount(users, weights=values) / np.maximum(counts, 1)
    return np.asarray(means[counts > 0], dtype=np.float64)
