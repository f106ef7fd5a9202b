"""CSV and TSV files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from contract.behaviours.csv_rows import CsvRows, Problem, Row
from training.data.files.opening import open_packed
from training.data.files.part import BATCH, Batch, Part
from training.data.sizes import unpacked_bytes


class DelimitedPart(Part):
    """A text file with a header; cells are separated by commas or tabs."""

    def __init__(self, path: Path, separator: str) -> None:
        super().__init__(path)
        self._separator = separator
        with open_packed(path) as file:
            self.columns = tuple(CsvRows(path, file, separator).header)

    def batches(self, wanted: Sequence[str], ids: Sequence[str], skip: Callable[[Problem], None]) -> Iterator[Batch]:
        """See the base class."""
        with open_packed(self.path) as file:
            rows = CsvRows(self.path, file, self._separator)
            places = {name: rows.header.index(name) for name in wanted if name in rows.header}
            rows.watched = tuple(places[name] for name in ids)
            source = iter(rows)
            size = unpacked_bytes(self.path)
            while some := list(islice(source, BATCH)):
                self.share = file.tell() / size if size else 0.0
                yield self._batch(some, wanted, places, skip)
            self.lines, self.blank, self.padded = rows.lines, rows.blank, rows.padded

    def _batch(
        self, some: list[Row | Problem], wanted: Sequence[str], places: dict[str, int], skip: Callable[[Problem], None]
    ) -> Batch:
        good = [row for row in some if isinstance(row, Row)]
        for problem in some:
            if isinstance(problem, Problem):
                skip(self.problem(*problem[:4]))
        lines = np.fromiter((row.line for row in good), dtype=np.int64, count=len(good))
        nothing: list[None] = [None] * len(good)
        return Batch(
            lines,
            {name: [row.cells[places[name]] for row in good] if name in places else list(nothing) for name in wanted},
        )
