"""From ragged behaviours to a model's fixed inputs: the only padding code, for training and for serving.

Padding is on the left, so that the newest behaviour is always in the last slot. Item index 0 is padding.
Symbols: B rows, T sequence length, R behaviours of all rows in one flat array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from contract.behaviours.actions import ACTION_CODES, Action

SequenceColumn = Literal["items", "times", "actions", "values", "plays"]
"""A behaviour column that a model may read, int64 (B, T): item index, ms since epoch, action code, rating x 10, ms
played."""

RowInput = Literal["user", "request_time"]
"""A per-row input that a model may read, int64 (B,): user index (0 = unknown), ms since epoch."""

POSITIVE_ACTIONS: Final[tuple[Action, ...]] = (
    "click", "play", "finish", "like", "comment", "share", "follow", "purchase", "rate"
)  # fmt: skip
"""The actions that count as behaviours unless a data set overrides them: all except impression and dislike."""

Arrays = dict[str, NDArray[np.int64]]

_FEW_ROWS: Final = 64


class SequenceSpec(BaseModel):
    """The inputs of a model's `encode`: the length T and the actions it was trained with, and its inputs by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: Annotated[int, Field(ge=1, le=4096)]
    columns: tuple[SequenceColumn, ...] = ("items",)
    row_inputs: tuple[RowInput, ...] = ()
    actions: tuple[Action, ...] = POSITIVE_ACTIONS

    @property
    def action_codes(self) -> NDArray[np.uint8]:
        """Codes of the actions that belong to the sequence; other stored behaviours are ignored."""
        return np.array([ACTION_CODES[action] for action in self.actions], dtype=np.uint8)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all inputs, in the order of the exported graph."""
        return (*self.columns, *self.row_inputs)


def windows(
    columns: Mapping[str, NDArray[np.int64]],
    starts: NDArray[np.int64] | Sequence[int],
    stops: NDArray[np.int64] | Sequence[int],
    length: int,
) -> Arrays:
    """Cut the newest `length` behaviours of each row from flat columns, padded with 0 on the left.

    Args:
        columns: flat arrays (R,), all rows one after another, oldest first in each row.
        starts: (B,) first place of each row in the flat arrays.
        stops: (B,) one past the newest behaviour of each row; equal to its start for an empty history.
        length: T.

    Returns:
        For every column an int64 array (B, T).
    """
    if len(stops) <= _FEW_ROWS:
        return _few_windows(columns, starts, stops, length)
    starts, stops = np.asarray(starts), np.asarray(stops)
    places = stops[:, None] + np.arange(-length, 0)  # (B, T)
    real = places >= starts[:, None]
    safe = np.where(real, places, 0)
    if not any(len(column) for column in columns.values()):
        return {name: np.zeros(real.shape, dtype=np.int64) for name in columns}
    return {name: np.where(real, column[safe], 0).astype(np.int64, copy=False) for name, column in columns.items()}


def _few_windows(
    columns: Mapping[str, NDArray[np.int64]],
    starts: NDArray[np.int64] | Sequence[int],
    stops: NDArray[np.int64] | Sequence[int],
    length: int,
) -> Arrays:
    """Cut row by row: for a few rows, a copy of each costs less than places of all."""
    cut = {name: np.zeros((len(stops), length), dtype=np.int64) for name in columns}
    for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        count = min(stop - start, length)
        if count:
            for name, column in columns.items():
                cut[name][row, length - count :] = column[stop - count : stop]
    return cut
