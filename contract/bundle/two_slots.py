"""A hash table in which each index has two slots and is in one of them: a look-up has two steps and no loop.

Pagh and Rodler, Cuckoo Hashing (2004), built with numpy: all that have no slot yet move at once (ADR 0307).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_MOVES: Final = 8  # of an index, on average, before the table is given up; usually one or two are enough


def table_size(count: int) -> int:
    """Return a power of two of which the indices below `count` fill at most half."""
    return 1 << (2 * count).bit_length()


def filled(slots: NDArray[np.int64], size: int) -> NDArray[np.int32] | None:
    """Return a table with each index from 1 on in one of its two slots, 0 in the others; None if they do not fit.

    Args:
        slots: shape (N + 1, 2); those of index 0 are not used.
        size: of the table.
    """
    table = np.zeros(size, dtype=np.int32)
    side = np.zeros(len(slots), dtype=np.int8)
    left, moves = np.arange(1, len(slots), dtype=np.int32), 0
    while len(left):
        moves += len(left)
        if moves > _MOVES * len(slots):
            return None
        wanted = slots[left, side[left]]
        before = table[wanted]
        table[wanted] = left  # of several, one is written
        has_slot = table[wanted] == left
        driven_out = before[has_slot]
        left = np.concatenate([left[~has_slot], driven_out[driven_out > 0]])
        side[left] ^= 1
    return table
