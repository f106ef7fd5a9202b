"""Many ids in a matrix of bytes with a hash table over it, in place of a dictionary of strings.

A dictionary of a million strings takes 150 MB and is built in half a second; this takes 40 MB and half of that. A
look-up is vectorised over the ids that are asked for: it waits for memory as a dictionary does, but for all ids at
once (ADR 0170).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from contract.bundle.two_slots import filled, table_size

MAX_WIDTH: Final = 40  # bytes of the longest id: longer ones would make the matrix larger than the dictionary
_WORD: Final = 8
_FACTORS: Final = np.random.default_rng(307).integers(0, 2**63, (MAX_WIDTH // _WORD, 2), dtype=np.uint64) * 2 + 1
_LAST_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_HALF: Final = np.uint64(32)
_TRIES: Final = 8  # other factors, if some ids do not fit

Words = NDArray[np.uint64]  # (N, W): the UTF-8 bytes of an id, filled up with zeros
Texts = NDArray[np.bytes_]  # (N,)


class PackedIds(Sequence[str]):
    """Ids in index order; the index of the first is 1.

    Args:
        texts: shape (N + 1,), of a width of whole words; the first is empty, all others are unique and not empty.
        factors: of the two slots of each id.
        table: the index of an id, or 0, in each slot.
    """

    def __init__(self, texts: Texts, factors: Words, table: NDArray[np.int32]) -> None:
        self._texts, self._factors, self._table = texts, factors, table
        self._asked_for = np.dtype(f"S{texts.itemsize + _WORD}")  # one word more: a longer id equals no known one

    @classmethod
    def of(cls, ids: Sequence[str]) -> PackedIds | None:
        """Pack unique ids, or return None if one is too long, is empty or contains NUL, or if they do not fit."""
        packed = np.array([b"", *(one.encode() for one in ids)])
        width = -(-packed.itemsize // _WORD) * _WORD
        if width > MAX_WIDTH or "\0" in "".join(ids) or not packed[1:].all():
            return None
        texts = packed.astype(f"S{width}")
        size = table_size(len(texts))
        for number in range(_TRIES):
            factors = _FACTORS[: width // _WORD] * np.uint64(2 * number + 1)
            table = filled(_slots(_words(texts), factors, size), size)
            if table is not None:
                return cls(texts, factors, table)
        return None

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
        found = self._table[_slots(_words(asked)[:, :-1], self._factors, len(self._table))]
        indices = found[:, 0].astype(np.int64)
        others = np.flatnonzero(self._texts[indices] != asked)
        if len(others):
            second = found[others, 1]
            indices[others] = second * (self._texts[second] == asked[others])
        return indices

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


def _slots(words: Words, factors: Words, size: int) -> NDArray[np.int64]:
    """Return the two slots of each id, shape (N, 2), in a table whose size is a power of two."""
    mixed: Words = words @ factors
    mixed ^= mixed >> _HALF  # or ids that differ alike would share both slots
    mixed *= _LAST_FACTOR
    mixed >>= np.uint64(65 - size.bit_length())
    return mixed.view(np.int64)
