"""Columns of numbers.

Symbols: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.behaviours import grammar

Bad = dict[int, tuple[str, str]]
"""By row: the kind of problem, and the problem for people, which completes "column NAME: "."""


def number_column(
    cells: Sequence[Any], high: float, *, hint: str = "", blank: str | None = "0"
) -> tuple[NDArray[np.float64], Bad]:
    """Return numbers from 0 to `high` (N,), 0 in place of wrong ones, and the problem of each of those.

    Args:
        cells: text or numbers.
        high: the largest.
        hint: added to the problem of a number that is too large.
        blank: the value of an empty cell; None if empty cells are wrong.
    """
    texts = [_text(cell, blank) for cell in cells]
    found = grammar.numbers(texts)
    good = (found >= 0) & (found <= high)  # NaN is in no range
    bad: Bad = {}
    for place in np.flatnonzero(~good).tolist():
        text = texts[place]
        told = f"{grammar.shown(text)} is not a number from 0 to {high:.15g}" + (hint if found[place] > high else "")
        bad[place] = ("number", told if text else "is empty")
    return np.where(good, found, 0.0), bad


def _text(cell: Any, blank: str | None) -> str:
    if type(cell) is str:
        return cell or blank or ""
    if cell is None or cell != cell:  # a table writes an unknown number as NaN
        return blank or ""
    return str(cell)
