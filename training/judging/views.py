"""Metrics by view: one view for each kind of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.judging.metrics import Counts, Floats


@dataclass(frozen=True)
class View:
    """Metrics of one kind of candidates.

    Attributes:
        users: (Q,) from 0, one per value.
        values: by metric, (Q,); NaN if a metric is not defined.
        weights: by metric, (Q,), for weighted means.
        totals: metrics of all queries together.
    """

    users: Counts
    values: dict[str, Floats]
    weights: dict[str, Floats] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Return every metric's mean over the queries where it is defined; 0 if there are none."""
        return self.totals | {name: self._mean(name) for name in self.values}

    def take(self, chosen: NDArray[np.bool_]) -> View:
        """Return the queries (Q,) that are chosen."""
        return View(self.users[chosen], {name: values[chosen] for name, values in self.values.items()})

    def _mean(self, name: str) -> float:
        defined = ~np.isnan(self.values[name])
        if not bool(defined.any()):
            return 0.0
        weights = self.weights[name][defined] if name in self.weights else None
        return float(np.average(self.values[name][defined], weights=weights))


def joined(views: Sequence[View]) -> View:
    """Return the queries of several views of the same metrics, by user."""
    users = np.concatenate([view.users for view in views])
    order = np.argsort(users, kind="stable")
    values, weights = (
        {name: np.concatenate([getattr(view, kind)[name] for view in views])[order] for name in getattr(views[0], kind)}
        for kind in ("values", "weights")
    )
    return View(users[order], values, weights)


Views = dict[str, View]
"""Views by name; the main view's name is the empty string."""


def means(views: Views) -> dict[str, float]:
    """Return every mean; those of other views than the main one are named `view.metric`."""
    return {
        f"{name}.{metric}" if name else metric: value
        for name, view in views.items()
        for metric, value in view.means().items()
    }
