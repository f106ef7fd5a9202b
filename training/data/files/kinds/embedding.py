"""A ready-made embedding per item: a list column, or columns e0, e1, ..."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from training.data.files.kinds.base import Kind
from training.data.item_field import NOTHING, ItemField, Names

_MOST: Final = 4_096  # numbers of one embedding


class Embedding(Kind):
    """Numbers that another model computed from the item's content; stored as they are.

    Attributes:
        prefix: of columns that each contain one number: e reads e0, e1, ... up to the first that is missing.
    """

    kind: Literal["embedding"]
    prefix: str | None = None

    def columns(self, name: str, available: Sequence[str]) -> tuple[str, ...]:
        """Return the list column, or the columns with the prefix in the order of their numbers."""
        if self.prefix is None:
            return super().columns(name, available)
        pattern = re.compile(re.escape(self.prefix) + "([0-9]+)")
        found = sorted(int(match[1]) for match in map(pattern.fullmatch, available) if match)
        return tuple(f"{self.prefix}{place}" for place in range(max(len(found), 1)))

    def read(self, cells: tuple[Any, ...]) -> NDArray[np.float32] | None:
        """Return the numbers."""
        given = cells if self.prefix is not None else _listed(cells[0])
        if not given or all(cell is None or cell == "" for cell in given):
            return None
        try:
            numbers = np.array([float(cell) for cell in given], dtype=np.float32)
        except (TypeError, ValueError, OverflowError):
            raise ValueError("is not a list of numbers") from None
        if not np.isfinite(numbers).all():
            raise ValueError("has a number that is not finite")
        if len(numbers) > _MOST:
            raise ValueError(f"has {len(numbers):,} numbers; at most {_MOST:,} are read")
        return numbers

    def check(self, value: NDArray[np.float32], other: NDArray[np.float32]) -> None:
        """Compare the lengths of two embeddings."""
        if len(value) != len(other):
            raise ValueError(f"has {len(value)} numbers, and the items before it have {len(other)}")

    def code(self, values: Sequence[NDArray[np.float32] | None], known: Names = NOTHING) -> ItemField:
        """Return the embedding of each item, zeros if it has none."""
        width = next((len(value) for value in values if value is not None), 0)
        numbers = np.zeros((len(values) + 1, width), dtype=np.float32)
        for row, value in enumerate(values, start=1):
            if value is not None:
                numbers[row] = value
        return ItemField(numbers=numbers)


def _listed(cell: Any) -> Sequence[Any]:
    """Return the members of a list, or of the text of one."""
    if cell is None or isinstance(cell, list):
        return cell or ()
    if isinstance(cell, str) and cell[:1] == "[":
        try:
            return list(json.loads(cell))
        except (ValueError, RecursionError):
            pass
    if cell == "":
        return ()
    raise ValueError("is not a list of numbers")
