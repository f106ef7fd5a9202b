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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contract.behaviours import grammar
from contract.behaviours.actions import ACTIONS
from contract.behaviours.csv_rows import CsvRows, FileError, Problem, Row, open_lines
from contract.behaviours.records import MAX_PLAY_MS, MAX_TIME_MS, MAX_VALUE, tenths

CHUNK: Final = 16_384  # rows in memory as text at once
MAX_LISTED: Final = 100  # bad lines that are listed for people
KINDS: Final = ("columns", "quotes", "text", "id", "before_1971", "future", "number", "action")
"""Kinds of problems, for counts."""

_NAMES: Final = {"user": "user_id", "item": "item_id", "rating": "value"}
_IDS: Final = ("user_id", "item_id")
_MAX_CACHED: Final = 500_000  # distinct ids remembered by a reader that does not keep them all


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file, column by column; N rows.

    Attributes:
        lines: (N,) where each row begins.
        users, items: ids; equal ones are the same object.
        times_ms: (N,) milliseconds since the epoch.
        actions: (N,) codes.
        plays_ms: (N,) milliseconds played or 0.
        values: (N,) tenths or 0.
        titles, genres: as the file has them; None if it has no such column.
        years: 0 if there is none.
    """

    lines: NDArray[np.int64]
    users: list[str]
    items: list[str]
    times_ms: NDArray[np.int64]
    actions: NDArray[np.uint8]
    plays_ms: NDArray[np.uint32]
    values: NDArray[np.uint8]
    titles: list[str] | None
    genres: list[str] | None
    years: NDArray[np.int64] | None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.users)


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
            columns = _Columns(self._path, rows.header)
            rows.watched = columns.ids
            source = iter(rows)
            while batch := list(islice(source, CHUNK)):
                chunk = self._chunk(columns, batch)
                self.counts.rows += len(chunk)
                yield chunk
            self.counts.lines, self.counts.blank = rows.lines, rows.blank
            self.counts.spanned, self.counts.padded = rows.spanned, rows.padded

    def _chunk(self, columns: _Columns, batch: list[Row | Problem]) -> Chunk:
        """Return the rows of a batch that are good; the others are skipped in the order of the file."""
        rows = [row for row in batch if isinstance(row, Row)]
        parsed = _Parsed(columns, rows, self._latest_ms, self._interned)
        if parsed.bad or len(rows) < len(batch):
            problems = [*parsed.bad.values(), *(problem for problem in batch if isinstance(problem, Problem))]
            for problem in sorted(problems):
                self._skip(problem)
        if parsed.bad:
            good = [row for place, row in enumerate(rows) if place not in parsed.bad]
            parsed = _Parsed(columns, good, self._latest_ms, self._interned)
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


class _Columns:
    """The place of each column in a file, and the file's spelling of its name."""

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        self.places: dict[str, int] = {}
        self.spelled: dict[str, str] = {}
        for place, spelled in enumerate(header):
            name = _NAMES.get(spelled, spelled)
            if name in self.places:
                raise FileError(f"{path}, line 1: columns {self.spelled[name]} and {spelled} are the same one")
            self.places[name], self.spelled[name] = place, spelled
        for name, wanted in (("user_id", "user (or user_id)"), ("item_id", "item (or item_id)")):
            if name not in self.places:
                raise FileError(_missing(path, wanted, header))
        if "ts" not in self.places and "timestamp" not in self.places:
            raise FileError(_missing(path, "timestamp (seconds) or ts (milliseconds)", header))
        self.ids = tuple(self.places[name] for name in _IDS)

    @property
    def time(self) -> str:
        """The column of times."""
        return "ts" if "ts" in self.places else "timestamp"


def _missing(path: Path, wanted: str, header: Sequence[str]) -> str:
    hint = "; columns are separated by commas" * (len(header) == 1 and (";" in header[0] or "\t" in header[0]))
    return f"{path}, line 1: column {wanted} is missing; the header has: {', '.join(header) or 'nothing'}{hint}"


class _Parsed:
    """The columns of a batch of rows, and the problems of each row."""

    def __init__(
        self,
        columns: _Columns,
        batch: Sequence[Row],
        latest_ms: int,
        interned: Callable[[list[str]], tuple[list[str], set[str]]],
    ) -> None:
        self._columns, self._rows, self._interned = columns, batch, interned
        self.bad: dict[int, Problem] = {}
        self._users, self._items = self._id("user_id"), self._id("item_id")
        self._times = self._time(latest_ms)
        self._actions = self._action()
        self._plays = np.rint(self._number("play_ms", MAX_PLAY_MS))
        self._values = self._number("value", MAX_VALUE)
        self._years = self._number("year", 9999, whole=True) if "year" in columns.places else None
        self._titles, self._genres = self._words("title"), self._words("genres")

    def chunk(self) -> Chunk:
        """Return the columns of rows that are all good."""
        return Chunk(
            lines=np.fromiter((row.line for row in self._rows), dtype=np.int64, count=len(self._rows)),
            users=self._users,
            items=self._items,
            times_ms=self._times,
            actions=self._actions,
            plays_ms=self._plays.astype(np.uint32),
            values=tenths(self._values),
            titles=self._titles,
            genres=self._genres,
            years=self._years.astype(np.int64) if self._years is not None else None,
        )

    def _cells(self, name: str) -> list[str]:
        place = self._columns.places[name]
        return [row.cells[place] for row in self._rows]

    def _fail(self, place: int, name: str, kind: str, message: str) -> None:
        self.bad.setdefault(place, Problem(self._rows[place].line, self._columns.spelled[name], kind, message))

    def _id(self, name: str) -> list[str]:
        ids, bad = self._interned(self._cells(name))
        if bad:
            for place, text in enumerate(ids):
                if text in bad:
                    self._fail(place, name, "id", grammar.id_problem(text))
        return ids

    def _time(self, latest_ms: int) -> NDArray[np.int64]:
        name = self._columns.time
        unit = 1 if name == "ts" else 1000
        times = self._number(name, (MAX_TIME_MS - 1) // unit, hint=_TIME_HINTS[name], blank=None)
        times_ms = np.rint(np.nan_to_num(times) * unit).astype(np.int64)
        for place in np.flatnonzero((times_ms < grammar.MIN_TIME_MS) | (times_ms > latest_ms)).tolist():
            problem = grammar.time_problem(int(times_ms[place]), latest_ms)
            assert problem is not None
            text = grammar.shown(self._rows[place].cells[self._columns.places[name]])
            self._fail(place, name, problem, f"{text} {_told_time(problem, name)}")
        return times_ms

    def _action(self) -> NDArray[np.uint8]:
        if "action" not in self._columns.places:
            return np.full(len(self._rows), grammar.action_code(""), dtype=np.uint8)
        cells = self._cells("action")
        codes = np.fromiter(map(grammar.action_code, cells), dtype=np.uint8, count=len(cells))
        for place in np.flatnonzero(codes == 0).tolist():
            self._fail(place, "action", "action", f"{grammar.shown(cells[place])} is not one of {', '.join(ACTIONS)}")
        return codes

    def _number(
        self, name: str, high: float, *, whole: bool = False, hint: str = "", blank: str | None = "0"
    ) -> NDArray[np.float64]:
        """Return a column of numbers from 0 to `high`; zeros if the file does not have it."""
        if name not in self._columns.places:
            return np.zeros(len(self._rows))
        cells = self._cells(name)
        if blank is not None and "" in cells:
            cells = [cell or blank for cell in cells]
        found = grammar.numbers(cells)
        good = (found >= 0) & (found <= high)  # NaN is in no range
        if whole:
            good &= found == np.rint(found)
        for place in np.flatnonzero(~good).tolist():
            kind = "a whole number" if whole else "a number"
            told = f"{grammar.shown(cells[place])} is not {kind} from 0 to {high:.15g}"
            told += hint if found[place] > high else ""
            self._fail(place, name, "number", told if cells[place] else "is empty")
        return np.where(good, found, 0.0)

    def _words(self, name: str) -> list[str] | None:
        if name not in self._columns.places:
            return None
        cells = self._cells(name)
        if "\n" in "".join(cells):
            for place, cell in enumerate(cells):
                if "\n" in cell:
                    self._fail(place, name, "quotes", "continues over several lines: is its quote closed?")
        return cells


_TIME_HINTS: Final = {
    "ts": "; a column ts contains milliseconds, not micro- or nanoseconds",
    "timestamp": "; milliseconds belong in a column ts",
}


def _told_time(problem: grammar.TimeProblem, column: str) -> str:
    if problem == "future":
        return f"is more than {grammar.MAX_FUTURE_MS // 60_000} minutes in the future"
    if column == "ts":
        return "is before 1971 in milliseconds; if these are seconds, call the column timestamp"
    return "is before 1971 in seconds; if it only tells the order, add 1000000000 to each"


def _told(lines: Iterable[bytes], on_bytes: Callable[[bytes], None]) -> Iterator[bytes]:
    for line in lines:
        on_bytes(line)
        yield line


__all__ = ["BadLineError", "BehaviourFile", "Chunk", "FileError", "Problem", "ReadCounts", "SkippedLines"]
