"""Ids as small integers: each distinct id is stored once.

Symbols: N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from contract.behaviours import grammar

Codes = NDArray[np.int32]
_CHUNK = 65_536  # ids in memory as references at once
_PLAIN = frozenset({str, int, type(None)})
_UNFIT = {bool: "a truth value", bytes: "bytes", list: "a list", dict: "an object"}


class CodedIds(Sequence[str]):
    """One id per row, as a place in `names`.

    Attributes:
        names: distinct ids by first appearance; some may not be used.
        codes: (N,).
    """

    def __init__(self, names: list[str], codes: Codes) -> None:
        self.names, self.codes = names, codes

    def __len__(self) -> int:
        """Return N."""
        return len(self.codes)

    def __iter__(self) -> Iterator[str]:
        """Yield the id of each row."""
        for start in range(0, len(self.codes), _CHUNK):
            yield from self[start : start + _CHUNK]

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        """Return the id of one row, or of several."""
        if isinstance(place, slice):
            return [self.names[code] for code in self.codes[place].tolist()]
        return self.names[int(self.codes[place])]


class IdCodes:
    """Gives each id a code at its first appearance."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def __len__(self) -> int:
        """Return the number of distinct ids."""
        return len(self._codes)

    @property
    def names(self) -> list[str]:
        """The distinct ids in the order of their codes."""
        return list(self._codes)

    def find(self, cells: Sequence[Any]) -> Codes:
        """Return the code of each cell, -1 if it has none; (N,)."""
        get = self._codes.get
        return np.fromiter((get(text, -1) for text in id_texts(cells)), dtype=np.int32, count=len(cells))

    def code(self, cells: Sequence[Any]) -> tuple[Codes, dict[int, str]]:
        """Return the code of each cell (N,), and the problems of the cells that are not ids, whose code is -1."""
        texts, unfit = fit_texts(cells)
        codes = self._codes
        new = [text for text in dict.fromkeys(texts) if text not in codes]
        valid = new if grammar.are_ids(new) else list(filter(grammar.is_id, new))
        for text in valid:
            codes[text] = len(codes)
        found = np.fromiter((codes.get(text, -1) for text in texts), dtype=np.int32, count=len(texts))
        bad = np.flatnonzero(found < 0).tolist()
        return found, {place: unfit.get(place) or grammar.id_problem(texts[place]) for place in bad}


def id_texts(cells: Sequence[Any]) -> Sequence[str]:
    """Return cells as ids would be written: without outer blanks, a whole number without a decimal point."""
    return [cell if type(cell) is str and cell.isalnum() else cell_text(cell) for cell in cells]


def fit_texts(cells: Sequence[Any]) -> tuple[Sequence[str], dict[int, str]]:
    """Return cells as `id_texts` does, and the problems of those of another type: no request would send their text."""
    if _PLAIN.issuperset(map(type, cells)):
        return id_texts(cells), {}
    unfit = {place: problem for place, cell in enumerate(cells) if (problem := _type_problem(cell))}
    return id_texts([None if place in unfit else cell for place, cell in enumerate(cells)]), unfit


def cell_text(cell: Any) -> str:
    """Return a cell as text without outer blanks."""
    if isinstance(cell, str):
        return cell.strip(" \t")
    if cell is None or cell != cell:  # a table writes NaN for a missing number
        return ""
    if isinstance(cell, float) and cell.is_integer():  # a table writes whole numbers so if one of them is missing
        return str(int(cell))
    return str(cell)


def _type_problem(cell: Any) -> str:
    kind = _UNFIT.get(type(cell))
    if kind is None and isinstance(cell, float) and cell == cell and not cell.is_integer():
        kind = grammar.shown(str(cell))
    return f"is {kind}, not a text or a whole number" if kind else ""
