"""Times in any of the formats of a mapping, as milliseconds since the epoch.

Symbols: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.grammar import MAX_FUTURE_MS, MIN_TIME_MS, shown, time_problem
from contract.behaviours.records import MAX_TIME_MS
from training.data.datasets.interactions import DataError
from training.data.files.mapping import Time
from training.data.files.numbers import Bad, number_column
from training.data.files.part import Part

Format = Literal["seconds", "ms", "iso"]
_OWN: Final[dict[str, Format]] = {"ts": "ms", "timestamp": "seconds"}
_UNIT_MS: Final[dict[str, int]] = {"ms": 1, "seconds": 1000}
_BEFORE: Final = {
    "ms": "is before 1971 in milliseconds; seconds are time.format = seconds",
    "seconds": "is before 1971 in seconds; if it only tells the order, add 1000000000 to each",
    "iso": "is before 1971",
}


def format_of(part: Part, column: str, given: Time) -> Format:
    """Return the format of a file's times.

    Raises:
        DataError: the mapping must name it.
    """
    if column in part.zoned:
        return "ms"
    if column in part.dated:
        return "iso"
    found = given.format or _OWN.get(column)
    if found is None:
        raise DataError(f"{part.path}, column {column}: name the format of its times: time.format = seconds, ms or iso")
    return found


def times_ms(cells: Sequence[Any], form: Format, zone: str | None, latest_ms: int) -> tuple[NDArray[np.int64], Bad]:
    """Return the times (N,), and the problem of each that is wrong."""
    if form == "iso":
        found, bad = _iso(cells, ZoneInfo(zone) if zone else None)
    else:
        unit = _UNIT_MS[form]
        numbers, bad = number_column(cells, (MAX_TIME_MS - 1) // unit, hint=_hint(form), blank=None)
        found = np.rint(numbers * unit).astype(np.int64)
    for place in np.flatnonzero((found < MIN_TIME_MS) | (found > latest_ms)).tolist():
        problem = time_problem(int(found[place]), latest_ms)
        if place not in bad and problem is not None:
            late = f"is more than {MAX_FUTURE_MS // 60_000} minutes in the future"
            told = late if problem == "future" else _BEFORE[form]
            bad[place] = (problem, f"{shown(str(cells[place]))} {told}")
    return found, bad


def _hint(form: Format) -> str:
    return "; milliseconds are time.format = ms" if form == "seconds" else "; milliseconds, not micro- or nanoseconds"


def _iso(cells: Sequence[Any], zone: tzinfo | None) -> tuple[NDArray[np.int64], Bad]:
    found = np.zeros(len(cells), dtype=np.int64)
    bad: Bad = {}
    for place, cell in enumerate(cells):
        try:
            moment = cell if isinstance(cell, datetime) else datetime.fromisoformat(cell)
            if moment.tzinfo is None:
                if zone is None:
                    bad[place] = ("time", f"{shown(str(cell))} names no time zone; set time.zone")
                    continue
                moment = moment.replace(tzinfo=zone)
            found[place] = round(moment.timestamp() * 1000)
        except (TypeError, ValueError, OverflowError):
            empty = cell is None or cell == ""
            bad[place] = ("time", "is empty" if empty else f"{shown(str(cell))} is not an ISO 8601 time")
    return found, bad
