"""The columns of a file of behaviours: found by its header, then parsed for many rows at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contract.behaviours import grammar
from contract.behaviours.actions import ACTIONS
from contract.behaviours.csv_rows import FileError, Problem, Row
from contract.behaviours.records import MAX_PLAY_MS, MAX_TIME_MS, MAX_VALUE, tenths

_NAMES: Final = {"user": "user_id", "item": "item_id", "rating": "value"}
_IDS: Final = ("user_id", "item_id")


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


class Columns:
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


class Parsed:
    """The columns of a batch of rows, and the problems of each row."""

    def __init__(
        self,
        columns: Columns,
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
