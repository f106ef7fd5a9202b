"""The taste of each person: a factorisation of the matrix of all ratings. The served models take no part in it.

Weighted alternating least squares (Hu, Koren, Volinsky 2008) over who rated what gives every person a number for every
item. The numbers are standardised per person and turned into a probability of watching to the end.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FACTORS: Final = 32
_WEIGHT: Final = 20.0  # of a rated item over an unrated one
_PENALTY: Final = 20.0
_ROUNDS: Final = 6
_STEEPNESS: Final = 1.5
_SHIFT: Final = -1.0  # an item of average interest is finished by 27%


def interest(rated: npt.NDArray[np.bool_], seed: int) -> Floats:
    """Return each person's probability of finishing each item.

    Args:
        rated: (people, items), True for each rating.
        seed: of the first factors.
    """
    draw = np.random.default_rng(seed)
    items = draw.normal(0, 0.1, (rated.shape[1], FACTORS))
    for _ in range(_ROUNDS):
        people = _solve(rated, items)
        items = _solve(rated.T, people)
    return probabilities(people @ items.T)


def probabilities(numbers: Floats) -> Floats:
    """Return probabilities that rise with the numbers; each row is standardised first."""
    spread = numbers.std(axis=1, keepdims=True)
    standard = (numbers - numbers.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
    return np.asarray(1 / (1 + np.exp(-(_STEEPNESS * standard + _SHIFT))))


def _solve(rated: npt.NDArray[np.bool_], other: Floats) -> Floats:
    """Return the factors of the rows that fit the ratings best, given those of the columns."""
    common = other.T @ other + _PENALTY * np.eye(FACTORS)
    found = np.zeros((len(rated), FACTORS))
    for place, row in enumerate(rated):
        own = other[row]
        found[place] = np.linalg.solve(common + _WEIGHT * own.T @ own, (1 + _WEIGHT) * own.sum(axis=0))
    return found
