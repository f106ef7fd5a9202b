"""One file of rows: its columns, and its rows in batches with the place of each.

Symbols: N rows of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.csv_rows import Problem

BATCH: Final = 16_384  # rows in memory as Python objects at once


class Batch(NamedTuple):
    """Some rows: the line or row number of each, from 1, (N,), and the cells of the wanted columns, N each.

    A cell is text, a number, a list, or None.
    """

    lines: NDArray[np.int64]
    columns: dict[str, list[Any]]


class Part(ABC):
    """One file. Subclasses read one format.

    Attributes:
        unit: that numbers count, for people.
        columns: the names that the file has; those of the first row in a format without a header.
        whole: whether `columns` are all columns; a later row of JSON lines may have others.
        zoned: columns of times with a zone in the file itself: their cells are milliseconds since the epoch.
        dated: columns of times without a zone: their cells are datetimes.
        lines, blank: seen so far; empty lines.
        padded: rows with blanks around an id.
        share: of the file that is read, 0 to 1; 0 if its format does not tell.
    """

    unit: ClassVar[str] = "line"
    whole: ClassVar[bool] = True
    zoned: frozenset[str] = frozenset()
    dated: frozenset[str] = frozenset()

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = self.blank = self.padded = 0
        self.share = 0.0
        self.columns: tuple[str, ...] = ()

    @abstractmethod
    def batches(self, wanted: Sequence[str], ids: Sequence[str], skip: Callable[[Problem], None]) -> Iterator[Batch]:
        """Yield the rows.

        Args:
            wanted: columns; one that a row lacks is None.
            ids: those of them in which blanks are counted.
            skip: called with each line that cannot be read.
        """

    def problem(self, line: int, column: str, kind: str, message: str) -> Problem:
        """Return the problem of one place of this file."""
        return Problem(line, column, kind, message, f"{self.path}, {self.unit} {line}")
