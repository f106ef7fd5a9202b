"""The base of all kinds of item features.

Symbols: I items, d width of an embedding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from training.data.files.coded_ids import cell_text
from training.data.item_field import NOTHING, ItemField, Names


class Kind(BaseModel, ABC):
    """A feature in a mapping.

    Attributes:
        column: their name of the column; default the feature's own name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: str
    column: str | None = None

    def columns(self, name: str, available: Sequence[str]) -> tuple[str, ...]:
        """Return the columns to read, some of which may be missing from `available`."""
        return (self.column or name,)

    @abstractmethod
    def read(self, cells: tuple[Any, ...]) -> Any:
        """Return the value of one item; None if it is unknown.

        Raises:
            ValueError: the cells are malformed; the message completes "column NAME: ".
        """

    def check(self, value: Any, other: Any) -> None:
        """Compare a value with one of another item.

        Raises:
            ValueError: both cannot be of one feature; the message completes "column NAME: ".
        """

    @abstractmethod
    def code(self, values: Sequence[Any], known: Names = NOTHING) -> ItemField:
        """Return the field of all items; the names and edges of `known` stay."""


def text_of(cell: Any) -> str:
    """Return a cell as text without outer blanks; a whole number without a decimal point, as a request spells it.

    Raises:
        ValueError: it is a list, an object or bytes.
    """
    if isinstance(cell, list | dict | tuple):
        raise ValueError("is a list or an object, not one value")
    if isinstance(cell, bytes):
        raise ValueError("is bytes, not a text")
    return cell_text(cell).strip()
