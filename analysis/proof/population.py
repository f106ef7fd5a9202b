"""The users of the proof: one row each, with every metric over a window and over the time before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.metrics import MEANS, METRICS, Metric

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Users whose behaviour does not depend on any arm.

    Attributes:
        name: for people.
        units: ids in UTF-8, as they are hashed.
        columns: by name, as in the unit table, winsorised where the metric is.
        history: whether a unit has a time before.
        naive_like: the least share of false positives that a test of likes per play must show here.
    """

    name: str
    units: tuple[bytes, ...]
    columns: dict[str, Column]
    history: NDArray[np.bool_]
    naive_like: float = 0.10

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Return the metrics that are not 0 for all users."""
        return tuple(one for one in METRICS if all(self.columns[name].any() for name in one.columns))


def from_table(name: str, table: pa.Table, naive_like: float = 0.10) -> Population:
    """Return the population of a unit table (analysis/units/table.py), after winsorising."""
    names = [column for metric in MEANS for column in (metric, f"{metric}_pre")]
    return Population(
        name,
        tuple(unit.encode() for unit in table["unit"].to_pylist()),
        {column: np.asarray(table[column].to_numpy(), dtype=np.float64) for column in names},
        np.asarray(table["history"].to_numpy(zero_copy_only=False), dtype=np.bool_),
        naive_like,
    )
