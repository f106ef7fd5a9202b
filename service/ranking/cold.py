"""The places of candidates without a score, by the parameter `cold` of the user's arm.

| Value | Candidates without a score |
| --- | --- |
| last | follow the others |
| prior | are where known items are clicked as often as new ones, by the bundle's prior |
| interleave | are spread evenly over the list; also the way of `prior` if the bundle has none |

They keep the order of the request among themselves.
Symbols: N candidates with a score, U without.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from contract.bundle.manifest import NewItemPrior
from contract.experiments.served import COLD, COLD_WAYS, ColdWay


def cold_of(parameters: Mapping[str, object]) -> ColdWay:
    """Return the way of an arm."""
    value = parameters.get(COLD)
    return next((way for way in COLD_WAYS if way == value), "last")


def places_of(way: ColdWay, prior: NewItemPrior | None, scored: int, unscored: int) -> NDArray[np.int64]:
    """Return the places (U,) in the whole list of the candidates without a score, rising.

    Args:
        way: of the arm.
        prior: of the bundle.
        scored: N.
        unscored: U.
    """
    numbers = np.arange(unscored, dtype=np.int64)
    if way == "last":
        return scored + numbers
    if way == "prior" and prior is not None:
        return round((1 - prior.quantile) * scored) + numbers
    return ((2 * numbers + 1) * (scored + unscored)) // (2 * max(unscored, 1))


def merged_order(places: NDArray[np.int64], scored: int, count: int) -> NDArray[np.int64]:
    """Return the list's first `count` entries: n < N is the n-th best candidate, N + u the u-th one without a score.

    Args:
        places: of the candidates without a score.
        scored: N.
        count: entries, at most N + U.
    """
    total = scored + len(places)
    order = np.empty(total, dtype=np.int64)
    is_unscored = np.zeros(total, dtype=np.bool_)
    is_unscored[places] = True
    order[is_unscored] = scored + np.arange(len(places))
    order[~is_unscored] = np.arange(scored)
    return order[:count]
