"""Every metric of 100 simulated users, compared with a computation in plain Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from analysis.metrics import MEANS
from analysis.rules import Study
from analysis.synthetic.files import write_synthetic
from analysis.synthetic.population import Population
from analysis.tables.database import Resources
from analysis.units.table import compute
from tests.support.event_tables import DAY, HOUR, T0, Row, exposure, write_rows
from tests.support.plain_units import plain_units

DAYS = 7
POPULATION = Population(
    users=100, seed=5, before_days=8, after_days=9, entry_days=3, sessions_per_day=1.5, lost_backgrounds=0.2,
    lost_ends=0.1, second_devices=0.5, repeats=0.05, late=0.1, experiment="e",
)  # fmt: skip
END = POPULATION.start_ms + 9 * DAY  # some windows are not over


def rows_of(folder: Path, table: str) -> list[Row]:
    files = sorted((folder / table).glob("*/*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def damaged(rows: list[Row], seed: int) -> list[Row]:
    """The same events with clocks, devices and fields as bad as they can be; a repeat is changed like its event."""
    changes: list[Any] = [
        lambda row, n: row | {"device": None},
        lambda row, n: row | {"ts": row["ts"] // 1000 * 1000},  # several events at one time
        lambda row, n: row | {"type": ("play", "finish", "click", "unknown")[n % 4]},
        lambda row, n: row | {"view": None},
        lambda row, n: row | {"item": None, "author": None if n % 2 else row["author"]},
        lambda row, n: row | {"play_ms": (-1, 0, None, 10 * HOUR, 25 * HOUR)[n % 5]},
        lambda row, n: row | {"duration_ms": (-5, 0, None, 500)[n % 4]},
        lambda row, n: row | {"tz_offset": (None, 345, -720, 9_999)[n % 4]},
        lambda row, n: row | {"received": row["ts"] + (-2 * DAY, 2 * DAY, 3 * DAY, 5 * DAY)[n % 4]},
        lambda row, n: row | {"type": "like", "item": "one"},
        lambda row, n: row | {"type": "unlike", "item": "one"},
        lambda row, n: row | {"type": ("comment", "share", "follow", "unfollow")[n % 4], "item": "one", "author": "a"},
        lambda row, n: row | {"type": ("foreground", "background", "publish", "dislike")[n % 4]},
    ]
    rng = np.random.default_rng(seed)
    drawn = {row["id"]: rng.integers(0, 10 * len(changes), 2) for row in sorted(rows, key=lambda row: str(row["id"]))}
    return [
        changes[drawn[row["id"]][0]](row, int(drawn[row["id"]][1])) if drawn[row["id"]][0] < len(changes) else row
        for row in rows
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    clean, bad = tmp_path_factory.mktemp("clean"), tmp_path_factory.mktemp("bad")
    write_synthetic(POPULATION, clean)
    write_rows(bad, "exposures", rows_of(clean, "exposures"))
    write_rows(bad, "activity", damaged(rows_of(clean, "activity"), seed=1))
    return {"clean": clean, "bad": bad}


@pytest.mark.parametrize("name", ["clean", "bad"])
def test_every_metric_of_100_users_is_the_same_in_plain_python(folders: dict[str, Path], name: str) -> None:
    folder = folders[name]
    units = compute(folder, Study("e", DAYS, END), Resources("500MB", 1)).units.to_pylist()
    expected = plain_units(rows_of(folder, "exposures"), rows_of(folder, "activity"), DAYS, END)
    columns = [f"{name}{suffix}" for name in MEANS for suffix in ("", "_pre")]
    assert len(units) == 100
    different = [
        (row["unit"], column, row[column], expected[row["unit"]][column])
        for row in units
        for column in columns
        if row[column] != expected[row["unit"]][column]
    ]
    assert different == []
    if name == "bad":
        zeros = [column for column in columns if not any(row[column] for row in units)]
        assert zeros == [], "a column of zeros shows nothing"


def at_the_borders(unit: str, rng: np.random.Generator) -> list[Row]:
    """Events of two devices whose gaps are the limits of the rules, or a millisecond beside them."""
    gaps = np.array([0, 1, 500, 1_000, 10_000, 29_999, 30_000, 59_999, 60_000, 120_000, 120_001, 3_500_000, 30_000_000])
    names = ("foreground", "foreground", "background", "background", "heartbeat", "heartbeat", "like", "unlike")
    ts = T0 - 2 * DAY + int(rng.integers(0, 2 * DAY))
    rows: list[Row] = []
    for place in range(60):
        ts += int(rng.choice(gaps))
        rows.append(
            {
                "id": f"{unit} {rng.integers(1 << 30)} {place}", "ts": ts, "received": ts, "clamped": 0, "unit": unit,
                "type": str(rng.choice(names)), "item": "i", "device": "ab"[rng.integers(2)], "tz_offset": None,
                "author": None, "view": None, "play_ms": None, "duration_ms": None,
            }
        )  # fmt: skip
    return rows


def test_gaps_at_the_borders_of_the_rules_are_the_same_in_plain_python(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    names = [f"u{number:03d}" for number in range(300)]
    exposures = [exposure(name) for name in names]
    rows = [row for name in names for row in at_the_borders(name, rng)]
    write_rows(tmp_path, "exposures", exposures)
    write_rows(tmp_path, "activity", rows)
    units = compute(tmp_path, Study("e", 1, T0 + DAY), Resources("500MB", 1)).units.to_pylist()
    expected = plain_units(exposures, rows, 1, T0 + DAY)
    assert {row["unit"]: {name: row[name] for name in expected[row["unit"]]} for row in units} == expected
    assert sum(row["stay_duration"] for row in units) > 0
