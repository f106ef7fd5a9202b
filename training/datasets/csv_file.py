"""A CSV file with a header: user, item and a time; optionally action, value and play_ms.

| Column | Also called | Meaning |
| --- | --- | --- |
| user | user_id | public id |
| item | item_id | public id |
| timestamp | - | seconds since the epoch, fractions allowed |
| ts | - | milliseconds since the epoch, instead of timestamp |
| action | - | a name of contract.behaviours; default click |
| value | rating | 0 to 25.5 |
| play_ms | - | milliseconds played |
| title, year, genres | - | of the item; genres separated by `|`; the first row that has one counts |

So the `behaviours.csv` of a prepared data set is such a file too. Other columns are passed over.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from contract.behaviours import ACTION_CODES, DEFAULT_ACTION, MAX_PLAY_MS, MAX_TIME_MS, MAX_VALUE
from training.datasets.interactions import DataError, Interactions, ItemFacts
from training.datasets.text import decode, digest_of, fail, identifier, read_bytes, shown, whole

_ALIASES: Final = {"user_id": "user", "item_id": "item", "rating": "value"}
_REQUIRED: Final = ("user", "item")
_TIMES: Final = ("timestamp", "ts")


class _Row(NamedTuple):
    user: str
    item: str
    time_ms: int
    action: int
    value: int
    play_ms: int
    facts: ItemFacts


def load(path: Path) -> Interactions:
    """Read the file; gzip where its name ends in .gz.

    Raises:
        DataError: a column is missing or a line is bad.
    """
    content = read_bytes(path)
    rows = list(_rows(path, decode(path, content, "utf-8-sig")))
    if not rows:
        raise DataError(f"{path}: no interactions in it")
    catalogue: dict[str, ItemFacts] = {}
    for row in rows:
        catalogue[row.item] = _merged(catalogue.get(row.item), row.facts)
    return Interactions(
        name=path.name.removesuffix(".gz").removesuffix(".csv"),
        source=f"CSV file {path.name}",
        digest=digest_of({"interactions": content}),
        users=[row.user for row in rows],
        items=[row.item for row in rows],
        times_ms=np.array([row.time_ms for row in rows], dtype=np.int64),
        actions=np.array([row.action for row in rows], dtype=np.int64),
        values=np.array([row.value for row in rows], dtype=np.int64),
        plays_ms=np.array([row.play_ms for row in rows], dtype=np.int64),
        catalogue=catalogue,
    )


def _rows(path: Path, text: str) -> Iterator[_Row]:
    reader = csv.reader(StringIO(text), strict=True)
    try:
        columns = _columns(path, next(reader, []))
        for values in reader:
            if values:
                yield _row(path, reader.line_num, columns, values)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from None


def _columns(path: Path, header: list[str]) -> list[str]:
    columns = [_ALIASES.get(name.strip(), name.strip()) for name in header]
    for name in _REQUIRED:
        if name not in columns:
            raise DataError(
                f"{path}, line 1: column {name} is missing; the header has: {', '.join(columns) or 'nothing'}"
            )
    if not any(name in columns for name in _TIMES):
        raise DataError(
            f"{path}, line 1: column timestamp (seconds) or ts (milliseconds) is missing; "
            f"the header has: {', '.join(columns)}"
        )
    repeated = {name for name in columns if columns.count(name) > 1}
    if repeated:
        raise DataError(f"{path}, line 1: column {min(repeated)} stands there twice")
    return columns


def _row(path: Path, line: int, columns: list[str], values: list[str]) -> _Row:
    if len(values) < len(columns):
        fail(path, line, columns[len(values)], f"missing: the line has {len(values)} of {len(columns)} columns")
    if len(values) > len(columns):
        raise DataError(f"{path}, line {line}: {len(values)} columns, expected {len(columns)}")
    cell = dict(zip(columns, values, strict=True))
    number = _numbers(path, line, cell)
    action = cell.get("action") or DEFAULT_ACTION
    if action not in ACTION_CODES:
        fail(path, line, "action", f"{shown(action)} is not one of {', '.join(ACTION_CODES)}")
    time_ms = number("ts", MAX_TIME_MS - 1) if "ts" in cell else number("timestamp", MAX_TIME_MS // 1000 - 1) * 1000
    year = whole(path, line, "year", cell["year"], 0, 9999) if cell.get("year") else None
    return _Row(
        identifier(path, line, "user", cell["user"]),
        identifier(path, line, "item", cell["item"]),
        round(time_ms),
        ACTION_CODES[action],
        round(number("value", MAX_VALUE) * 10) if cell.get("value") else 0,
        round(number("play_ms", MAX_PLAY_MS)) if cell.get("play_ms") else 0,
        ItemFacts(cell.get("title", ""), tuple(filter(None, cell.get("genres", "").split("|"))), year),
    )


def _numbers(path: Path, line: int, cell: dict[str, str]) -> Callable[[str, float], float]:
    def number(column: str, high: float) -> float:
        try:
            value = float(cell[column])
        except ValueError:
            value = -1.0
        if not 0 <= value <= high:  # nan is in no range
            hint = "; milliseconds belong in a column ts" if column == "timestamp" and value > high else ""
            fail(path, line, column, f"{shown(cell[column])} is not a number from 0 to {high:g}{hint}")
        return value

    return number


def _merged(known: ItemFacts | None, new: ItemFacts) -> ItemFacts:
    if known is None:
        return new
    return replace(
        known,
        title=known.title or new.title,
        genres=known.genres or new.genres,
        year=known.year if known.year is not None else new.year,
    )
