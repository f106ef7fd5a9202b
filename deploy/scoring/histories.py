"""Behaviours to histories: one row per user, with the bytes that the store has of them (docs/contract.md).

The input is CSV or Parquet with one row per behaviour. DuckDB orders the rows on disk, so they need not fit in memory.
The output is Parquet in parts, with the columns `user_id` and `records`; another program may write it instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from contract.behaviours.actions import ACTION_CODES, DEFAULT_ACTION
from contract.behaviours.records import (
    MAX_PLAY_MS,
    MAX_TIME_MS,
    MAX_VALUE,
    RECORD_BYTES,
    item_keys,
    records_from_columns,
)
from contract.command_line import CommandError, one_line

SCHEMA: Final = pa.schema([("user_id", pa.string()), ("records", pa.large_binary())])
_ROWS: Final = 500_000  # that are packed at once
_MEMORY: Final = "512MB"
_OPTIONAL: Final = {"action": f"'{DEFAULT_ACTION}'", "play_ms": "'0'", "value": "'0'"}
_NEEDED: Final = {"user_id": "user", "item_id": "item", "ts": "ts"}
"""The columns that a file must have, and another spelling of each."""


class HistoriesError(CommandError, ValueError):
    """The behaviours cannot be read; the message names the file and the reason."""


def write_histories(source: Path, out: Path, users_a_part: int = 1_000) -> int:
    """Write the histories of a file, or of a folder of Parquet parts; returns the number of users.

    Args:
        source: `.csv` or `.parquet`, with the columns user_id, item_id, ts (ms), and action, play_ms, value if known.
        out: a new folder.
        users_a_part: users of one file: the unit of work that a worker takes.

    Raises:
        HistoriesError: a column is missing, or a value cannot be stored.
    """
    out.mkdir(parents=True)
    users = 0
    try:
        for part, table in enumerate(_parts(source, out, users_a_part)):
            pq.write_table(table, out / f"{part:06d}.parquet")
            users += len(table)
    except duckdb.Error as error:
        raise HistoriesError(f"{source}: {one_line(str(error))[:300]}") from error
    if not users:
        raise HistoriesError(f"{source}: no behaviours")
    return users


def _parts(source: Path, scratch: Path, users_a_part: int) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for table in _packed(source, scratch):
        waiting.append(table)
        while sum(map(len, waiting)) >= users_a_part:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, users_a_part)
            waiting = [whole.slice(users_a_part)]
    if any(map(len, waiting)):
        yield pa.concat_tables(waiting)


def _packed(source: Path, scratch: Path) -> Iterator[pa.Table]:
    """Yield histories; a user's rows may be in several batches, so those of the last user wait for the next one."""
    rest: pa.Table | None = None
    for batch in _ordered(source, scratch):
        rows = pa.Table.from_batches([batch])
        rows = rows if rest is None else pa.concat_tables([rest, rows])
        starts = _user_starts(rows)
        if len(starts) > 1:
            yield _histories(source, rows.slice(0, starts[-1]), starts[:-1])
        rest = rows.slice(starts[-1])
    if rest is not None and len(rest):
        yield _histories(source, rest, np.zeros(1, dtype=np.int64))


def _ordered(source: Path, scratch: Path) -> Iterator[Any]:  # Any: pyarrow has no types
    """Yield the rows by user and time, in the order of the file at equal times."""
    with duckdb.connect() as database:
        database.execute(f"SET memory_limit = '{_MEMORY}'; SET threads = 1")
        database.execute("SET temp_directory = ?", [str(scratch)])
        relation = f"read_csv({_text(source)}, header = true, all_varchar = true)"
        if source.suffix != ".csv":
            relation = f"read_parquet({_text(source / '*.parquet' if source.is_dir() else source)})"
        columns = database.sql(f"SELECT * FROM {relation} LIMIT 0").columns
        query = f"SELECT {_columns(source, columns)} FROM (SELECT *, row_number() OVER () AS place FROM {relation})"
        yield from database.sql(f"{query} ORDER BY user_id, ts, place").to_arrow_reader(_ROWS)


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _columns(source: Path, found: list[str]) -> str:
    """Return the columns of the query, converted to one type each."""
    spelled = {name: name if name in found else other for name, other in _NEEDED.items()}
    if missing := [name for name, spelling in spelled.items() if spelling not in found]:
        raise HistoriesError(f"{source}: column {missing[0]} is missing; there are {', '.join(found)}")
    optional = {name: f"coalesce({name}, {given})" if name in found else given for name, given in _OPTIONAL.items()}
    return (
        f"{spelled['user_id']}::VARCHAR AS user_id, {spelled['item_id']}::VARCHAR AS item_id, ts::BIGINT AS ts, "
        f"{optional['action']}::VARCHAR AS action, {optional['play_ms']}::BIGINT AS play_ms, "
        f"{optional['value']}::DOUBLE AS value, place"
    )


def _user_starts(rows: pa.Table) -> NDArray[np.int64]:
    """Return where each user's rows begin."""
    codes = rows["user_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    return np.concatenate(([0], np.flatnonzero(codes[1:] != codes[:-1]) + 1)).astype(np.int64)


def _histories(source: Path, rows: pa.Table, starts: NDArray[np.int64]) -> pa.Table:
    records = _records(source, rows)
    offsets = np.concatenate((starts, [len(rows)])) * RECORD_BYTES
    content = pa.py_buffer(records.tobytes())
    packed = pa.Array.from_buffers(pa.large_binary(), len(starts), [None, pa.py_buffer(offsets), content])
    return pa.table([rows["user_id"].take(pa.array(starts)), packed], schema=SCHEMA)


def _records(source: Path, rows: pa.Table) -> NDArray[Any]:
    items = rows["item_id"].combine_chunks().dictionary_encode()
    actions = rows["action"].combine_chunks().dictionary_encode()
    names = actions.dictionary.to_pylist()
    if unknown := [name for name in names if name not in ACTION_CODES]:
        raise HistoriesError(f"{source}: action {unknown[0]!r} is not one of {', '.join(ACTION_CODES)}")
    codes = np.array([ACTION_CODES[name] for name in names], dtype=np.uint8)
    return records_from_columns(
        item_keys(items.dictionary.to_pylist())[items.indices.to_numpy()],
        _within(source, rows, "ts", MAX_TIME_MS - 1).astype(np.int64),
        codes[actions.indices.to_numpy()],
        _within(source, rows, "play_ms", MAX_PLAY_MS).astype(np.int64),
        _within(source, rows, "value", MAX_VALUE),
    )


def _within(source: Path, rows: pa.Table, name: str, most: float) -> NDArray[Any]:
    column = rows[name]
    values: NDArray[Any] = column.to_numpy()
    outside = ~((values >= 0) & (values <= most))  # NaN is in no range
    if column.null_count or outside.any():
        raise HistoriesError(f"{source}: {name}: a value is missing, or is not from 0 to {most:.15g}")
    return values
