"""A number per item, in buckets: quantiles of the items, or given edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field, field_validator

from contract.behaviours.grammar import is_number, shown
from training.data.files.kinds.base import Kind, text_of
from training.data.item_field import NOTHING, Features, ItemField, Names

_LARGEST: Final = float(np.finfo(np.float32).max)  # numbers are stored so


class Number(Kind):
    """A number; the code is its bucket, and the number itself is stored too.

    Attributes:
        buckets: how many, with the same number of items each, if there are no `edges`.
        edges: rising; a number belongs to the bucket after the last edge that is not above it.
    """

    kind: Literal["number"]
    buckets: Annotated[int, Field(ge=2, le=1_000)] = 16
    edges: tuple[Annotated[float, Field(strict=False)], ...] = Field(default=(), strict=False)

    @field_validator("edges")
    @classmethod
    def _rise(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if any(later <= earlier for earlier, later in pairwise(edges)):
            raise ValueError("edges must rise")
        return edges

    def read(self, cells: tuple[Any, ...]) -> float | None:
        """Return the number."""
        cell = cells[0]
        if isinstance(cell, float) and not math.isfinite(cell):
            return None  # tables write an unknown number as NaN
        text = text_of(cell)
        if not text:
            return None
        if not is_number(text):
            raise ValueError(f"{shown(text)} is not a number")
        if abs(float(text)) > _LARGEST:
            raise ValueError(f"{shown(text)} is too large")
        return float(text)

    def code(self, values: Sequence[float | None], known: Names = NOTHING) -> ItemField:
        """Return the bucket of each item; the edges of an earlier preparation stay."""
        numbers = np.array([np.nan, *(np.nan if value is None else value for value in values)])
        given = ~np.isnan(numbers)
        edges = tuple(known.edges) if known.names else self.edges or self._quantiles(numbers[given])
        places = np.searchsorted(np.array(edges), numbers, side="right") + 1
        codes = np.where(given, places, 0).astype(np.int64)[:, None]
        return ItemField(Features(codes, _names(edges)), numbers.astype(np.float32), edges)

    def _quantiles(self, numbers: Any) -> tuple[float, ...]:
        if not len(numbers):
            return ()
        inner = np.unique(np.quantile(numbers, np.arange(1, self.buckets) / self.buckets))
        return tuple(float(edge) for edge in inner if edge > numbers.min())


def _names(edges: tuple[float, ...]) -> tuple[str, ...]:
    if not edges:
        return ("any",)
    between = (f"{low:.12g} to {high:.12g}" for low, high in pairwise(edges))
    return (f"below {edges[0]:.12g}", *between, f"from {edges[-1]:.12g}")
