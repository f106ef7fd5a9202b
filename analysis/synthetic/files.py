"""Simulated users as the sink writes them: Parquet by table and date of arrival."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.rules import DAY, HOUR, SIMULATED_FILE
from analysis.synthetic.events import TYPES, Columns, draw_events
from analysis.synthetic.population import Population
from analysis.synthetic.users import CHUNK, Ints, Users, draw_users, unit_name
from analysis.tables.schemas import ACTIVITY, EXPOSURES

_SCATTER: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it is one to one
_AUTHORS: Final = 2_000
_LATEST: Final = 20 * HOUR


def write_synthetic(population: Population, folder: Path, progress: Callable[[float], None] | None = None) -> int:
    """Write the exposures and the activity of a population; returns the number of rows of activity.

    Args:
        population: the users.
        folder: gets `exposures/date=.../0.parquet`, `activity/date=.../0.parquet` and the mark of simulated data.
        progress: is called with the share that is done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SIMULATED_FILE).touch()
    written = 0
    chunks = -(-population.users // CHUNK)
    with _Writers(folder) as writers:
        for chunk in range(chunks):
            users, rng = draw_users(population, chunk)
            names = pa.array([unit_name(int(number)) for number in users.numbers])
            writers.write("exposures", _exposures(population, users, names, rng))
            activity = _activity(population, users, names, draw_events(population, users, rng), rng, written)
            writers.write("activity", activity)
            written += activity.num_rows
            if progress is not None:
                progress((chunk + 1) / chunks)
    return written


class _Writers:
    """One file per table and date, each complete when it gets its name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._open: dict[Path, pq.ParquetWriter] = {}

    def __enter__(self) -> _Writers:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()
        for path in self._open if error[0] is None else ():
            path.with_suffix(".part").rename(path)

    def write(self, table: str, rows: pa.Table) -> None:
        """Add rows to the files of their dates; `rows` has one column `date` more than the table."""
        dates = rows["date"]
        for date in pc.unique(dates).sort().to_pylist():
            part = rows.filter(pc.equal(dates, date)).drop_columns(["date"])
            self._writer(self._folder / table / f"date={date}" / "0.parquet", part.schema).write_table(part)

    def _writer(self, path: Path, schema: pa.Schema) -> pq.ParquetWriter:
        if path not in self._open:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open[path] = self._stack.enter_context(
                pq.ParquetWriter(path.with_suffix(".part"), schema, compression="zstd")
            )
        return self._open[path]


def _exposures(population: Population, users: Users, names: pa.Array, rng: np.random.Generator) -> pa.Table:
    """Each user's first exposure, and a second one some hours later, as another replica would write it."""
    n = len(users.numbers)
    user = np.concatenate([np.arange(n), np.arange(n)])
    ts = np.concatenate([users.exposed, users.exposed + HOUR + rng.integers(0, HOUR, n)])
    arms = pa.array(population.arms)
    unit = names.take(pa.array(user))
    degraded = rng.random(2 * n) < population.degraded
    columns = {
        "id": pc.binary_join_element_wise(unit, pa.array(np.repeat([0, 1], n)).cast(pa.string()), "-"),
        "ts": pa.array(ts),
        "req": pc.binary_join_element_wise("r", unit, pa.array(np.repeat([0, 1], n)).cast(pa.string()), "-"),
        "unit": unit,
        "arm": arms.take(pa.array(users.arms[user])),
        "outcome": pa.array(["ok", "degraded"]).take(pa.array(degraded.astype(np.int64))),
    }
    same = {
        "unit_type": "user_id", "layer": "rank", "exp": population.experiment, "reason": "split", "cfg": "simulated",
        "exp_salt": population.salt, "forced": 0, "model": "m", "ver": "1", "served_model": "m", "served_ver": "1",
        "k": 10, "n_cand": 10, "slot": 0, "armb": 0,
    }  # fmt: skip
    return _table(EXPOSURES, columns, same, ts)


def _activity(
    population: Population, users: Users, names: pa.Array, events: Columns, rng: np.random.Generator, first: int
) -> pa.Table:
    n = len(events.ts)
    delay = rng.integers(20, 2_000, n)
    late = rng.random(n) < population.late
    delay[late] = rng.integers(2_000, _LATEST, int(late.sum()))
    twice = np.flatnonzero(rng.random(n) < population.repeats)
    rows = np.concatenate([np.arange(n), twice])
    received = (events.ts + delay)[rows]
    received[n:] += rng.integers(1_000, HOUR, len(twice))
    order = np.argsort(received, kind="stable")
    rows, received = rows[order], received[order]
    user = events.user[rows]
    columns = {
        "id": _ids(rows + first, "01"),
        "ts": pa.array(events.ts[rows]),
        "received": pa.array(received),
        "unit": names.take(pa.array(user)),
        "type": pa.array(TYPES).take(pa.array(events.type[rows])),
        "item": _named("item-", events.item[rows]),
        "author": _named("author-", np.where(events.item[rows] < 0, -1, events.item[rows] % _AUTHORS)),
        "device": pc.binary_join_element_wise(
            names.take(pa.array(user)), pa.array(["phone", "tablet"]).take(pa.array(events.device[rows])), "-"
        ),
        "view": _ids(events.view[rows] + np.where(events.view[rows] < 0, 0, first), "v"),
        "play_ms": _nullable(events.play_ms[rows]),
        "duration_ms": _nullable(events.duration_ms[rows]),
        "tz_offset": pa.array(users.offset[user]),
    }
    return _table(ACTIVITY, columns, {"clamped": 0}, received)


def _table(schema: pa.Schema, columns: dict[str, Any], same: dict[str, Any], arrived: Ints) -> pa.Table:
    """Return a table with all columns of a schema and the date of arrival."""
    n = len(arrived)
    arrays = [
        columns[one.name].cast(one.type)
        if one.name in columns
        else pa.repeat(pa.scalar(same.get(one.name), one.type), n)
        for one in schema
    ]
    date = pa.array(arrived // DAY).cast(pa.int32()).cast(pa.date32()).cast(pa.string())
    return pa.Table.from_arrays(arrays, schema=schema).append_column("date", date)


def _ids(numbers: Ints, prefix: str) -> pa.Array:
    """Return texts of 22 or so characters, all different, without an order; null for -1."""
    scattered = pa.array(numbers.astype(np.uint64) * _SCATTER, mask=numbers < 0).cast(pa.string())
    return pc.binary_join_element_wise(prefix, pc.utf8_lpad(scattered, 20, "0"), "")


def _named(prefix: str, numbers: Ints) -> pa.Array:
    return pc.binary_join_element_wise(prefix, _nullable(numbers).cast(pa.string()), "")


def _nullable(numbers: Ints) -> pa.Array:
    return pa.array(numbers, mask=numbers < 0)
