"""A category: one value per item, such as an author or a shelf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from training.data.features import coded, shared
from training.data.files.kinds.base import Kind, text_of
from training.data.item_field import NOTHING, ItemField, Names


class Category(Kind):
    """One value per item; with thousands of values, those of a single item are left out."""

    kind: Literal["category"]

    def read(self, cells: tuple[Any, ...]) -> str | None:
        """Return the value."""
        return text_of(cells[0]) or None

    def code(self, values: Sequence[str | None], known: Names = NOTHING) -> ItemField:
        """Return one code per item."""
        lists = [[value] if value else [] for value in values]
        return ItemField(coded(shared(lists, known.names), known.names))
