"""Rows of a log as columns of our own types, with the place of every problem.

Symbols: N good rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.actions import ACTION_CODES, ACTIONS
from contract.behaviours.csv_rows import FileError, Problem
from contract.behaviours.grammar import shown
from contract.behaviours.records import MAX_PLAY_MS, MAX_VALUE, tenths
from training.data.attributes import AttributeValues
from training.data.files.coded_ids import Codes, IdCodes, fit_texts
from training.data.files.mapping import IGNORE, Mapping
from training.data.files.numbers import Bad, number_column
from training.data.files.part import Batch, Part
from training.data.files.times import Format, format_of, times_ms

_ALIASES: Final = {
    "user": ("user_id", "user"),
    "item": ("item_id", "item"),
    "time": ("ts", "timestamp"),
    "action": ("action",),
    "play": ("play_ms",),
    "value": ("value", "rating"),
}
_REQUIRED: Final = ("user", "item", "time")
_CONTEXT: Final = "context."  # before the name of an attribute
_IGNORED: Final = 0  # the code of an action that is not read
_UNKNOWN: Final = -1


class Events(NamedTuple):
    """The good rows of a batch, (N,) each."""

    users: Codes
    items: Codes
    times_ms: NDArray[np.int64]
    actions: NDArray[np.uint8]
    plays_ms: NDArray[np.uint32]
    values: NDArray[np.uint8]  # tenths
    attributes: Codes  # (N, A) of the request, in the order of the mapping; -1 = unknown

    def take(self, chosen: NDArray[Any]) -> Events:
        """Return some of the rows, by a mask or by places."""
        return Events(
            self.users[chosen], self.items[chosen], self.times_ms[chosen], self.actions[chosen],
            self.plays_ms[chosen], self.values[chosen], self.attributes[chosen],
        )  # fmt: skip


@dataclass(frozen=True)
class LogColumns:
    """The columns of one file by our names; None if it has no such column.

    Attributes:
        attributes: of the request, by name.
    """

    names: dict[str, str | None]
    time_format: Format
    attributes: dict[str, str]

    def column(self, name: str) -> str | None:
        """Return the file's name of one of our columns, or of an attribute, as `context.NAME`."""
        return self.attributes.get(name.removeprefix(_CONTEXT)) if name.startswith(_CONTEXT) else self.names[name]

    def used(self) -> list[str]:
        """Return the file's names of all columns that are read."""
        return [name for name in (*self.names.values(), *self.attributes.values()) if name is not None]


def log_columns(part: Part, mapping: Mapping) -> LogColumns:
    """Return the columns of a log's file.

    Raises:
        FileError: a required or named column is missing.
        DataError: the format of its times must be named.
    """
    names = {name: column_of(part, name, getattr(mapping.columns, name)) for name in _ALIASES}
    time = names["time"]
    assert time is not None
    for name, column in mapping.context.items():
        if part.whole and column not in part.columns:
            raise FileError(
                f"{part.path}: column {column} of context.{name} is missing; the file has: {', '.join(part.columns)}"
            )
    return LogColumns(names, format_of(part, time, mapping.time), mapping.context)


def column_of(part: Part, name: str, given: str | None) -> str | None:
    """Return the file's name of one of our columns.

    Raises:
        FileError: it is missing, although it is required or the mapping names it.
    """
    if given is not None and (given in part.columns or not part.whole):
        return given
    found = next((alias for alias in _ALIASES[name] if alias in part.columns), None) if given is None else None
    if found is None and (given is not None or name in _REQUIRED):
        wanted = given or " or ".join(_ALIASES[name])
        raise FileError(
            f"{part.path}: column {wanted} is missing; the file has: {', '.join(part.columns) or 'nothing'}; "
            f"a mapping can name another: columns.{name}"
        )
    return found


class EventReader:
    """Turns batches of one log into events; ids of all files share their codes.

    Attributes:
        ignored: rows whose action the mapping ignores.
    """

    def __init__(
        self,
        mapping: Mapping,
        users: IdCodes,
        items: IdCodes,
        latest_ms: int,
        attributes: dict[str, AttributeValues] | None = None,
    ) -> None:
        self._attributes = attributes or {}
        self._mapping, self._users, self._items, self._latest_ms = mapping, users, items, latest_ms
        self._actions: dict[Any, int] = {
            **ACTION_CODES,
            **{theirs: ACTION_CODES.get(ours, _IGNORED) for theirs, ours in mapping.actions.items()},
            "": ACTION_CODES[mapping.default_action],
            None: ACTION_CODES[mapping.default_action],
        }
        self.ignored = 0

    def read(
        self, part: Part, batch: Batch, columns: LogColumns, skip: Callable[[Problem], None]
    ) -> tuple[Events, NDArray[np.int64]]:
        """Return the good rows and their places in the batch; `skip` is called with the problem of each other row."""
        bad: dict[int, Problem] = {}

        def cells(name: str) -> Sequence[Any] | None:
            theirs = columns.column(name)
            return None if theirs is None else batch.columns[theirs]

        def note(name: str, found: Bad) -> None:
            for place, (kind, message) in found.items():
                column = columns.column(name) or name
                bad.setdefault(place, part.problem(int(batch.lines[place]), column, kind, message))

        events = self._columns(len(batch.lines), columns.time_format, cells, note)
        for place in sorted(bad):
            skip(bad[place])
        good = np.ones(len(batch.lines), dtype=np.bool_)
        good[list(bad)] = False
        self.ignored += int((good & (events.actions == _IGNORED)).sum())
        places = np.flatnonzero(good & (events.actions != _IGNORED))
        return events.take(places), places

    def _columns(
        self,
        count: int,
        time_format: Format,
        cells: Callable[[str], Sequence[Any] | None],
        note: Callable[[str, Bad], None],
    ) -> Events:
        """Return all rows; those with a problem have any values."""
        found = {}
        for name, codes in (("user", self._users), ("item", self._items)):
            found[name], problems = codes.code(cells(name) or ())
            note(name, {place: ("id", problem) for place, problem in problems.items()})
        times, bad = times_ms(cells("time") or (), time_format, self._mapping.time.zone, self._latest_ms)
        note("time", bad)
        actions, bad = self._action(cells("action"), count)
        note("action", bad)
        unit = 1000 if self._mapping.play_unit == "s" else 1
        plays, bad = self._number(cells("play"), count, MAX_PLAY_MS / unit)
        note("play", bad)
        values, bad = self._number(cells("value"), count, MAX_VALUE)
        note("value", bad)
        attributes = np.full((count, len(self._attributes)), -1, dtype=np.int32)
        for place, (name, known) in enumerate(self._attributes.items()):
            texts, unfit = fit_texts(cells(f"{_CONTEXT}{name}") or [None] * count)
            attributes[:, place], problems = known.code(texts)
            note(f"{_CONTEXT}{name}", {at: ("attribute", problem) for at, problem in (problems | unfit).items()})
        return Events(
            found["user"], found["item"], times, actions, np.rint(plays * unit).astype(np.uint32), tenths(values),
            attributes,
        )  # fmt: skip

    def _action(self, cells: Sequence[Any] | None, count: int) -> tuple[NDArray[np.uint8], Bad]:
        if cells is None:
            return np.full(count, self._actions[""], dtype=np.uint8), {}
        known = self._actions
        try:
            codes = np.fromiter((known.get(cell, _UNKNOWN) for cell in cells), dtype=np.int16, count=count)
        except TypeError:  # a list or an object
            found = (known.get(cell, _UNKNOWN) if isinstance(cell, Hashable) else _UNKNOWN for cell in cells)
            codes = np.fromiter(found, dtype=np.int16, count=count)
        bad: Bad = {}
        for place in np.flatnonzero(codes == _UNKNOWN).tolist():
            theirs = ", ".join(self._mapping.actions)
            told = f"{shown(str(cells[place]))} is not one of {', '.join(ACTIONS)}" + (theirs and f", {theirs}")
            bad[place] = ("action", f"{told}; a mapping can name it: actions.NAME = an action, or {IGNORE!r}")
        return np.where(codes < 0, _IGNORED, codes).astype(np.uint8), bad

    def _number(self, cells: Sequence[Any] | None, count: int, high: float) -> tuple[NDArray[np.float64], Bad]:
        return (np.zeros(count), {}) if cells is None else number_column(cells, high)
