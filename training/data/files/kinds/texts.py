"""A list of values per item, such as tags: a list column, or text with a separator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from training.data.features import coded, shared
from training.data.files.kinds.base import Kind, text_of
from training.data.item_field import NOTHING, ItemField, Names


class Texts(Kind):
    """Several values per item.

    Attributes:
        separator: between the values of a text.
        most: values of one item that are read.
    """

    kind: Literal["list"]
    separator: Annotated[str, Field(min_length=1)] = "|"
    most: Annotated[int, Field(ge=1, le=64)] = 16

    def read(self, cells: tuple[Any, ...]) -> tuple[str, ...] | None:
        """Return the values, each once."""
        cell = cells[0]
        parts = cell if isinstance(cell, list) else text_of(cell).split(self.separator)
        values = dict.fromkeys(filter(None, map(text_of, parts)))
        return tuple(values)[: self.most] or None

    def code(self, values: Sequence[tuple[str, ...] | None], known: Names = NOTHING) -> ItemField:
        """Return the codes of each item's values."""
        return ItemField(coded(shared([value or () for value in values], known.names), known.names))
