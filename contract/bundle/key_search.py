"""The indices of 64-bit item keys: a search in sorted keys, or a hash table where there are many (ADR 0307).

A search in a million sorted keys waits for memory at most of its 20 steps; the table needs two or three accesses.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from contract.bundle.two_slots import filled, table_size

_LARGEST_KEY = np.uint64(2**64 - 1)
_HALF: Final = np.uint64(32)

Keys = NDArray[np.uint64]


class KeySearch(Protocol):
    """Finds keys."""

    def indices(self, keys: Keys) -> NDArray[np.int64]:
        """Return the indices of keys, 0 if one is not known; shape (N,)."""


class SortedKeys:
    """A binary search.

    Args:
        keys: unique; the index of the first is 1.
        order: sorts them.
    """

    def __init__(self, keys: Keys, order: NDArray[np.int64]) -> None:
        # One place more, of an unknown key: where a search ends that finds no key as large.
        self._keys = np.append(keys[order], _LARGEST_KEY)
        self._order = np.append(order + 1, 0)

    def indices(self, keys: Keys) -> NDArray[np.int64]:
        """Return the indices of keys, 0 if one is not known; shape (N,)."""
        places = self._keys.searchsorted(keys)
        indices = self._order[places]
        indices *= self._keys[places] == keys
        return indices


class HashedKeys:
    """A hash table; keys are hashes already, so their two halves are the slots.

    Args:
        keys: by index; the first is not used.
        table: the index of a key, or 0, in each slot.
    """

    def __init__(self, keys: Keys, table: NDArray[np.int32]) -> None:
        self._keys, self._table = keys, table

    @classmethod
    def of(cls, keys: Keys) -> HashedKeys | None:
        """Return a table of unique keys, of which the first has the index 1; None if they do not fit."""
        by_index = np.insert(keys, 0, 0)
        size = table_size(len(by_index))
        table = filled(_slots(by_index, size), size)
        return None if table is None else cls(by_index, table)

    def indices(self, keys: Keys) -> NDArray[np.int64]:
        """Return the indices of keys, 0 if one is not known; shape (N,)."""
        found = self._table[_slots(keys, len(self._table))].astype(np.int64)
        found *= (self._keys[found] == keys[:, None]) & (found > 0)  # a key may be 0, as the unused first is
        return np.maximum(found[:, 0], found[:, 1])


def _slots(keys: Keys, size: int) -> NDArray[np.int64]:
    slots = np.empty((len(keys), 2), dtype=np.uint64)
    slots[:, 0], slots[:, 1] = keys, keys >> _HALF
    slots &= np.uint64(min(size, 1 << 32) - 1)
    return slots.view(np.int64)
