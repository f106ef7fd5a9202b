"""Files of behaviours: CSV with a header, read the same way by `training prepare` and `service.seed`.

| Column | Also called | Contains |
| --- | --- | --- |
| user_id | user | id |
| item_id | item | id |
| ts | - | milliseconds since the epoch |
| timestamp | - | seconds since the epoch, fractions allowed; read if there is no ts |
| action | - | a name of contract.behaviours.actions; empty = click |
| play_ms | - | milliseconds played; empty = 0 |
| value | rating | 0 to 25.5; empty = 0 |
| title, year, genres | - | of the item; genres separated by `|` |

The file is read in chunks, to bound the memory, and each chunk column by column, to be fast.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from contract.behaviours import grammar
from contract.behaviours.columns import Chunk, Columns, Parsed
from contract.behaviours.csv_rows import CsvRows, Problem, Row, open_lines

CHUNK: Final = 16_384  # rows in memory as text at once
MAX_LISTED: Final = 100  # bad lines that are listed for people
_MAX_CACHED: Final = 500_000  # distinct ids remembered by a reader that does not keep them all


@dataclass
class ReadCounts:
    """Counts of a reader.

    Attributes:
        lines: lines of the file, including its header.
        rows: rows that were read.
        blank: empty lines.
        spanned: lines inside a quoted cell that began on an earlier line.
        padded: rows with blanks around an id; the blanks are removed.
        skipped: lines that were not read, by kind of problem.
    """

    lines: int = 0
    rows: int = 0
    blank: int = 0
    spanned: int = 0
    padded: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


class BadLineError(ValueError):
    """A line cannot be read, and bad lines are not skipped; the message names file, line and column."""


class SkippedLines:
    """The bad lines of a file: all are counted, the first ones listed; pass it as `on_skip`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.count = 0
        self._listed: list[str] = []

    def __call__(self, problem: Problem) -> None:
        """Count one more line."""
        self.count += 1
        if len(self._listed) < MAX_LISTED:
            self._listed.append(f"skipped: {problem.told(self._path)}")

    def told(self) -> list[str]:
        """Return the list for people, one line per bad line."""
        more = self.count - len(self._listed)
        return [*self._listed, *([f"skipped: {more:,} more lines"] if more else [])]


class BehaviourFile:
    """One file of behaviours.

    Args:
        path: gzip if its name ends in .gz.
        latest_ms: a time after this is refused, as a service would at this time.
        on_skip: called with each skipped line; None stops at the first bad line.
        keep_ids: whether equal ids of the whole file share one object, for readers that keep them all.

    Attributes:
        counts: what was seen; complete when `chunks` is exhausted.
    """

    def __init__(
        self, path: Path, latest_ms: int, on_skip: Callable[[Problem], None] | None = None, *, keep_ids: bool = False
    ) -> None:
        self._path, self._latest_ms, self._on_skip, self._keep_ids = path, latest_ms, on_skip, keep_ids
        self.counts = ReadCounts()
        self._ids: dict[str, str] = {}

    def chunks(self, on_bytes: Callable[[bytes], None] | None = None) -> Iterator[Chunk]:
        """Read the file.

        Args:
            on_bytes: called with each line as it is in the (unpacked) file.

        Raises:
            FileError: the file cannot be read, or lacks a column.
            BadLineError: a line is bad and `on_skip` is None.
        """
        with open_lines(self._path) as file:
            rows = CsvRows(self._path, file if on_bytes is None else _told(file, on_bytes))
            columns = Columns(self._path, rows.header)
            rows.watched = columns.ids
            source = iter(rows)
            while batch := list(islice(source, CHUNK)):
                chunk = self._chunk(columns, batch)
                self.counts.rows += len(chunk)
                yield chunk
            self.counts.lines, self.counts.blank = rows.lines, rows.blank
            self.counts.spanned, self.counts.padded = rows.spanned, rows.padded

    def _chunk(self, columns: Columns, batch: list[Row | Problem]) -> Chunk:
        """Return the rows of a batch that are good; the others are skipped in the order of the file."""
        rows = [row for row in batch if isinstance(row, Row)]
        parsed = Parsed(columns, rows, self._latest_ms, self._interned)
        if parsed.bad or len(rows) < len(batch):
            problems = [*parsed.bad.values(), *(problem for problem in batch if isinstance(problem, Problem))]
            for problem in sorted(problems):
                self._skip(problem)
        if parsed.bad:
            good = [row for place, row in enumerate(rows) if place not in parsed.bad]
            parsed = Parsed(columns, good, self._latest_ms, self._interned)
        return parsed.chunk()

    def _skip(self, problem: Problem) -> None:
        if self._on_skip is None:
            raise BadLineError(problem.told(self._path))
        self.counts.skipped[problem.kind] += 1
        self._on_skip(problem)

    def _interned(self, cells: list[str]) -> tuple[list[str], set[str]]:
        """Return the ids, equal ones as one object, and those of the cells that are not ids."""
        known = self._ids
        if not self._keep_ids and len(known) > _MAX_CACHED:
            known.clear()
        new = [cell for cell in dict.fromkeys(cells) if cell not in known]
        bad = set() if grammar.are_ids(new) else {cell for cell in new if not grammar.is_id(cell)}
        known.update((cell, cell) for cell in new if cell not in bad)
        return [known.get(cell, cell) for cell in cells], bad


def _told(lines: Iterable[bytes], on_bytes: Callable[[bytes], None]) -> Iterator[bytes]:
    for line in lines:
        on_bytes(line)
        yield line
