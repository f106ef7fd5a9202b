"""The words of a text, such as a title."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from training.data.features import coded, shared
from training.data.files.kinds.base import Kind, text_of
from training.data.item_field import NOTHING, ItemField, Names
from training.data.text_words import words_of


class Words(Kind):
    """The words of a text that other items share.

    Attributes:
        most: words of one item that are read.
    """

    kind: Literal["words"]
    most: Annotated[int, Field(ge=1, le=64)] = 8

    def read(self, cells: tuple[Any, ...]) -> tuple[str, ...] | None:
        """Return the words, each once."""
        cell = cells[0]
        text = " ".join(map(text_of, cell)) if isinstance(cell, list) else text_of(cell)
        return words_of(text) or None

    def code(self, values: Sequence[tuple[str, ...] | None], known: Names = NOTHING) -> ItemField:
        """Return the codes of each item's first words that at least two items have."""
        lists = shared([value or () for value in values], known.names, most=0)
        return ItemField(coded([words[: self.most] for words in lists], known.names))
