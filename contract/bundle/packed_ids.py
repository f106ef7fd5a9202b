"""Many ids in a matrix of bytes with a hash table over it, in place of a dictionary of strings.

A dictionary of a million strings takes 150 MB and is built in half a second; this takes 40 MB and half of that. A
look-up is vectorised over the ids that are asked for. It waits for memory once or twice an id, as a dictionary does,
but for all ids at once (ADR 0170).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

MAX_WIDTH: Final = 40  # bytes of the longest id: longer ones would make the matrix larger than the dictionary
_WORD: Final = 8
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_SHIFT: Final = np.uint64(32)

Words = NDArray[np.uint64]  # (N, W): the UTF-8 bytes of an id, filled up with zeros
Texts = NDArray[np.bytes_]  # (N,)


class PackedIds(Sequence[str]):
    """Ids in index order; the index of the first is 1.

    Args:
        texts: shape (N + 1,), of a width of whole words; the first is empty, all others are unique and not empty.
    """

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._table = _table(texts)
        self._mask = len(self._table) - 1
        self._asked_for = np.dtype(f"S{texts.itemsize + _WORD}")  # one word more: a longer id equals no known one

    @classmethod
    def of(cls, ids: Sequence[str]) -> PackedIds | None:
        """Pack unique ids, or return None if one is too long, is empty or contains NUL."""
        packed = np.array([b"", *(one.encode() for one in ids)])
        width = -(-packed.itemsize // _WORD) * _WORD
        if width > MAX_WIDTH or "\0" in "".join(ids) or not packed[1:].all():
            return None
        return cls(packed.astype(f"S{width}"))

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self._texts) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...

    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        """Return an id, or several."""
        if isinstance(place, slice):
            return tuple(text.decode() for text in self._texts[1:][place])
        return str(self._texts[1:][place].decode())

    def indices(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the indices of ids, 0 if one is not known; shape (N,)."""
        if not len(ids):
            return np.zeros(0, dtype=np.int64)
        asked = self._packed(ids)
        slots = _slots(_words(asked)[:, :-1], self._mask)
        found = self._table[slots]
        places = np.flatnonzero(self._texts[found] != asked)
        while len(places):
            places = places[found[places] > 0]  # at an empty slot the search is over
            slots[places] = (slots[places] + 1) & self._mask
            found[places] = self._table[slots[places]]
            places = places[self._texts[found[places]] != asked[places]]
        return found.astype(np.int64)

    def _packed(self, ids: Sequence[str]) -> Texts:
        if "\0" in "".join(ids):  # numpy leaves it out at the end
            ids = [one.replace("\0", "\udc00") for one in ids]  # a lone surrogate, which no id has
        try:
            return np.array(ids, dtype=self._asked_for)
        except UnicodeEncodeError:  # not ASCII
            return np.array([one.encode("utf-8", "surrogatepass") for one in ids], dtype=self._asked_for)


def _words(texts: Texts) -> Words:
    words: Words = texts.view("<u8").reshape(len(texts), -1)
    return words


def _slots(words: Words, mask: int) -> NDArray[np.int64]:
    """Return the slot where the search for each id begins."""
    mixed = np.zeros(len(words), dtype=np.uint64)
    for column in words.T:
        mixed ^= column
        mixed *= _FACTOR
        mixed ^= mixed >> _SHIFT
    return (mixed & np.uint64(mask)).astype(np.int64)


def _table(texts: Texts) -> NDArray[np.int32]:
    """Return a hash table with open addressing, at most half full: the index of an id, or 0, in each slot."""
    table = np.zeros(1 << (2 * len(texts)).bit_length(), dtype=np.int32)
    mask = len(table) - 1
    left = np.arange(1, len(texts), dtype=np.int32)
    slots = _slots(_words(texts)[1:], mask)
    while len(left):
        free = table[slots] == 0
        table[slots[free]] = left[free]  # of several ids, one is written
        missed = table[slots] != left
        left, slots = left[missed], (slots[missed] + 1) & mask
    return table
