"""Parquet files, read in batches of rows by pyarrow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contract.behaviours.csv_rows import FileError, Problem
from training.data.files.part import BATCH, Batch, Part


class ParquetPart(Part):
    """A Parquet file; only the wanted columns are read, and one batch is in memory at a time."""

    unit: ClassVar[str] = "row"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if not path.exists():
            raise FileError(f"{path}: no such file")
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError) as error:
            raise FileError(f"{path}: cannot be read: {_first_line(error)}") from None
        self.columns = tuple(schema.names)
        for name, count in Counter(self.columns).items():
            if count > 1:
                raise FileError(f"{path}: column {name} is there twice")
        times = [field for field in schema if pa.types.is_timestamp(field.type)]
        self.zoned = frozenset(field.name for field in times if field.type.tz is not None)
        self.dated = frozenset(field.name for field in times) - self.zoned

    def batches(self, wanted: Sequence[str], ids: Sequence[str], skip: Callable[[Problem], None]) -> Iterator[Batch]:
        """See the base class."""
        present = [name for name in wanted if name in self.columns]
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(BATCH, columns=present, use_threads=False):
                    lines = np.arange(self.lines + 1, self.lines + 1 + len(batch))
                    self.lines += len(batch)
                    self.share = self.lines / file.metadata.num_rows
                    nothing: list[Any] = [None] * len(batch)
                    cells = {name: self._cells(batch.column(name), name) for name in present}
                    self._count_padded([cells[name] for name in ids if name in cells])
                    yield Batch(lines, {name: cells.get(name, nothing) for name in wanted})
            pa.default_memory_pool().release_unused()
        except (pa.ArrowException, OSError) as error:
            raise FileError(f"{self.path}: cannot be read: {_first_line(error)}") from None

    def _cells(self, column: Any, name: str) -> list[Any]:
        """Return the cells as Python values; those of a time with a zone as milliseconds."""
        if name in self.zoned:
            column = column.cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64())
        elif name in self.dated:
            column = column.cast(pa.timestamp("ms"), safe=False)  # Python's times have no nanoseconds
        elif pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        try:
            return list(column.to_pylist())
        except UnicodeDecodeError:
            raise FileError(f"{self.path}: column {name} has texts that are not UTF-8") from None

    def _count_padded(self, columns: list[list[Any]]) -> None:
        texts = [cells for cells in columns if cells and isinstance(cells[0], str)]
        for cells in texts:
            self.padded += sum(cell != cell.strip(" \t") for cell in cells if isinstance(cell, str))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["unreadable"])[0]
