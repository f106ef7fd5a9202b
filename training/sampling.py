"""Negatives: uniform over the items outside a row's target and history. Symbols: B rows, T length, I items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contract.command_line import CommandError


class SamplingError(CommandError, ValueError):
    """There are too few items to draw negatives from; the message says how many."""


def uniform_negatives(
    rng: np.random.Generator, excluded: NDArray[np.int64], item_count: int, count: int
) -> NDArray[np.int64]:
    """Draw `count` item indices per row, each uniform over 1 ... I without the row's excluded ones; (B, count).

    Exact in one pass, without rejection: a number is drawn among the allowed items' ranks, then moved up past the
    excluded items at or below it.

    Args:
        rng: the source of all randomness.
        excluded: (B, T) item indices in any order; 0 and repeats are allowed.
        item_count: I.
        count: draws per row, with replacement.

    Raises:
        SamplingError: a row excludes every item.
    """
    beyond = item_count + 1
    ordered = np.sort(excluded, axis=1)
    ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = 0
    ordered = np.sort(np.where(ordered == 0, beyond, ordered), axis=1) - 1  # from 0; absent ones at the end
    real = ordered < item_count
    allowed = item_count - real.sum(axis=1, keepdims=True)
    if int(allowed.min(initial=1)) < 1:
        raise SamplingError(
            f"no negatives to draw: a history and its target hold all {item_count:,} items; "
            "use a shorter config.length, or a model that draws no negatives (training.negatives = 0)"
        )
    # The j-th excluded item has ordered[j] - j allowed items below it.
    below = np.where(real, ordered - np.arange(ordered.shape[1]), item_count)
    drawn = (rng.random((len(excluded), count)) * allowed).astype(np.int64)
    lanes = np.arange(len(excluded))[:, None] * (2 * beyond)  # keeps the rows apart in one sorted array
    passed = np.searchsorted((below + lanes).ravel(), (drawn + lanes).ravel(), side="right").reshape(drawn.shape)
    return np.asarray(drawn + passed - np.arange(len(excluded))[:, None] * ordered.shape[1] + 1, dtype=np.int64)
