"""Parquet tables of exposures and activity, written row by row for tests of the analysis."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.tables.schemas import SCHEMAS

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
T0 = 1_767_254_400_000  # 2026-01-01T08:00:00Z: the first exposure of most tests

Row = dict[str, Any]


def write_rows(
    folder: Path, table: str, rows: Iterable[Row], name: str = "0.parquet", date: str = "2026-01-01"
) -> Path:
    """Write rows into one file of a table; columns that a row lacks are null."""
    path = folder / table / f"date={date}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = SCHEMAS[table]
    unknown = {column for row in rows for column in row} - set(schema.names)
    assert not unknown
    pq.write_table(pa.Table.from_pylist(list(rows), schema), path)
    return path


def exposure(unit: str = "u", arm: str = "control", ts: int = T0, **others: Any) -> Row:
    """An exposure in the experiment `e`."""
    row = {
        "id": f"x-{unit}-{arm}-{ts}",
        "ts": ts,
        "req": f"r-{unit}",
        "unit_type": "user_id",
        "unit": unit,
        "layer": "rank",
        "exp": "e",
        "arm": arm,
        "reason": "split",
        "slot": 1,
        "armb": 1,
        "cfg": "c1",
        "exp_salt": "s1",
        "forced": 0,
        "model": "m",
        "ver": "1",
        "served_model": "m",
        "served_ver": "1",
        "outcome": "ok",
        "k": 10,
        "n_cand": 10,
    }
    return row | others


class Events:
    """Events with ids in the order in which they are made."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, type_: str, ts: int, unit: str = "u", **others: Any) -> Row:
        """Add an event that arrives when it happens."""
        row = {"id": f"a{len(self.rows):06d}", "ts": ts, "received": ts, "clamped": 0, "unit": unit, "type": type_}
        self.rows.append(row | others)
        return self.rows[-1]
