"""A CSV file with a header, column by column: fast enough for millions of rows, with the exact place of every error."""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterable, Iterator, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.csv_rows import CsvRows, FileError, Problem, Row
from contract.behaviours.grammar import are_ids, is_id, shown
from contract.progress import Progress
from training.data.datasets.interactions import DataError
from training.data.datasets.text import fail, identifier, whole

MAX_SECONDS: Final = 4_102_444_800  # the year 2100
_CHUNK: Final = 65_536  # rows in memory as tuples at once


class Table:
    """The requested columns of one file, each with as many cells as the file has rows."""

    def __init__(self, path: Path, columns: dict[str, list[str]], lines: Sequence[int]) -> None:
        self.path, self._columns, self._lines = path, columns, lines

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._lines)

    def text(self, column: str) -> list[str]:
        """Return the cells as text."""
        return self._columns[column]

    def ids(self, column: str) -> list[str]:
        """Return the cells as ids.

        Raises:
            DataError: one of them is not an id.
        """
        cells = self._columns[column]
        distinct = list(dict.fromkeys(cells))
        if not are_ids(distinct):
            for text in distinct:
                if not is_id(text):
                    identifier(self.path, self._lines[cells.index(text)], column, text)
        return cells

    def whole(self, column: str, low: int, high: int, blank: int | None = None) -> NDArray[np.int64]:
        """Return the cells as whole numbers.

        Args:
            column: name.
            low: the smallest.
            high: the largest.
            blank: the value of an empty cell; None if empty cells are errors.

        Raises:
            DataError: a cell is not a whole number from low to high.
        """
        cells = self._columns[column]
        given = cells if blank is None else [cell or str(low) for cell in cells]
        try:
            numbers = np.fromiter(map(int, given), dtype=np.int64, count=len(cells))
        except (ValueError, OverflowError):
            numbers = np.full(len(cells), low - 1)  # the loop below finds the line
        if bool(((numbers < low) | (numbers > high)).any()):
            for line, cell in zip(self._lines, given, strict=True):
                whole(self.path, line, column, cell, low, high)
        if blank is not None:
            numbers[[not cell for cell in cells]] = blank
        return numbers

    def known(self, column: str, among: Container[str], where: str) -> list[str]:
        """Return the cells as ids, which must all be in another file.

        Args:
            column: name.
            among: the known ids.
            where: name of the other file.

        Raises:
            DataError: one of them is not known.
        """
        cells = self.ids(column)
        for text in dict.fromkeys(cells):
            if text not in among:
                self.fail(cells.index(text), column, f"{shown(text)} is not in {where}")
        return cells

    def fail(self, row: int, column: str, problem: str) -> NoReturn:
        """Raise the error of one cell.

        Raises:
            DataError: always.
        """
        fail(self.path, self._lines[row], column, problem)


def read_table(path: Path, content: bytes, columns: tuple[str, ...]) -> Table:
    """Read the named columns of a CSV file; others are ignored.

    Raises:
        DataError: a column is missing, a line has too few or too many cells, or there are no rows.
    """
    source = BytesIO(content)
    try:
        rows = CsvRows(path, source)
    except FileError as error:
        raise DataError(str(error)) from None
    for name in columns:
        if name not in rows.header:
            raise DataError(f"{path}, line 1: column {name} is missing; the header has: {', '.join(rows.header)}")
    found: dict[str, list[str]] = {name: [] for name in columns}
    lines = array("q")
    places = [rows.header.index(name) for name in columns]
    good = _good(path, rows)
    with Progress(f"reading {path.name}", len(content)) as progress:
        while chunk := list(islice(good, _CHUNK)):
            lines.extend(row.line for row in chunk)
            for name, place in zip(columns, places, strict=True):
                found[name].extend([row.cells[place] for row in chunk])
            progress.at(source.tell(), f"{len(lines):,} rows")
    if not lines:
        raise DataError(f"{path}: no rows in it")
    return Table(path, found, lines)


def _good(path: Path, rows: Iterable[Row | Problem]) -> Iterator[Row]:
    for row in rows:
        if isinstance(row, Problem):
            raise DataError(row.told(path))
        yield row
