"""Scores by other weights of a model's targets: sums of what the `score` graph gives for each target.

The graph is the same for all rows of a batch, so arms with different weights share a run and the cached states.
Symbols: M candidates of all rows, N of one row, H targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = tuple[float, ...]
"""The weight of each target, in the bundle's order (H,)."""


def weighed(
    scored: Mapping[str, NDArray[Any]],  # Any: float32 or int64, by the manifest
    names: Sequence[str],
    weights: Sequence[Weights | None],
    counts: Sequence[int],
) -> NDArray[np.float32]:
    """Return the scores (M,): of rows with weights, their sum over the targets; of others, the graph's.

    Args:
        scored: outputs of `score`, each (M,).
        names: the targets, which are outputs.
        weights: of each row, or None.
        counts: candidates of each row.
    """
    scores = np.array(scored["scores"])
    stop = 0
    for chosen, count in zip(weights, counts, strict=True):
        part = slice(stop, stop := stop + count)
        if chosen is not None:
            scores[part] = _sum([scored[name][part] for name in names], chosen)
    return scores


def _sum(chances: Sequence[NDArray[np.float32]], weights: Weights) -> NDArray[np.float32]:
    """Add up target by target: a matrix product may round a row in another way beside other rows."""
    total = np.float32(weights[0]) * chances[0]
    for chance, weight in zip(chances[1:], weights[1:], strict=True):
        total += np.float32(weight) * chance
    return total
