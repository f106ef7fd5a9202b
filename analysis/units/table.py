"""From the Parquet tables to one row per exposed unit: the analysis begins here.

Each unit has a closed window: the same number of days from its own first exposure. The same time before that is its
history. All sums are of whole milliseconds and counts, so that no result depends on the order of rows or on threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from analysis.metrics import MEANS
from analysis.rules import SECOND, Study
from analysis.tables.database import Database, Progress, Resources, column, database
from analysis.tables.reading import damage_named
from analysis.units.actions import ADDITIVE, count_actions
from analysis.units.counts import Notes, exposure_counts, notes
from analysis.units.daily import daily_table
from analysis.units.events import read_events
from analysis.units.exposed import find_exposed
from analysis.units.sessions import stitch

STAGES: Final = (
    "exposures", "units", "repeats", "data", "events", "device spans", "sessions", "hours", "views", "actions",
    "tables",
)  # fmt: skip
"""The names that `progress` is called with, in order."""

_TIMES: Final = frozenset({"stay_duration", "playtime"})


@dataclass(frozen=True)
class Tables:
    """The tables that the report reads. No table has nulls, and the rows are in a fixed order.

    Args:
        units: one row per exposed unit, in the order of units: unit, arm, exposed_ts (ms UTC), complete (its whole
            window is in the data), history (it has an event in the period before), and for each mean metric its value
            in the window and, with `_pre`, in the period before, as float64; times in seconds.
        daily: per arm, day since exposure and metric (analysis/units/daily.py).
        counts: per arm, for the health gates (analysis/units/counts.py).
        notes: what was read, and what was left out and why.
    """

    units: pa.Table
    daily: pa.Table
    counts: pa.Table
    notes: Notes


def compute(folder: Path, study: Study, resources: Resources | None = None, progress: Progress | None = None) -> Tables:
    """Compute the tables of a study.

    Args:
        folder: with the Parquet tables (analysis/tables/schemas.py).
        study: the experiment and its window.
        resources: limits on memory and threads.
        progress: is called as the stages of `STAGES` go on.

    Raises:
        CommandError: the experiment has no exposures or several salts, a file is damaged, or memory is too small.
    """
    with database(resources or Resources(), progress) as opened:
        prepare(opened, folder, study)
        units = unit_table(opened)
        return Tables(units, daily_table(opened, study), exposure_counts(opened, folder, study), notes(opened, study))


def prepare(opened: Database, folder: Path, study: Study) -> None:
    """Create the temporary tables that the other functions read."""
    with damage_named(folder):
        find_exposed(opened, folder, study)
        read_events(opened, folder, study)
    stitch(opened, study)
    count_actions(opened, study)
    opened.run("tables", _days())


def unit_table(opened: Database) -> pa.Table:
    """Return one row per exposed unit."""
    additive = ", ".join(f"sum({column(name)}) AS {column(name)}" for name in ADDITIVE)
    values = ", ".join(
        f"{_value(name, period)} AS {column(name + suffix)}"
        for name in MEANS
        for period, suffix in (("now", ""), ("pre", "_pre"))
    )
    totals = f"""
        SELECT * FROM (SELECT u, p, {additive} FROM unit_day GROUP BY u, p) FULL JOIN active USING (u, p)
    """
    query = f"""
        WITH total AS ({totals})
        SELECT unit, arm, exposed_ts, complete, history, {values}
        FROM exposed JOIN period USING (u)
        LEFT JOIN total AS now ON now.u = exposed.u AND now.p = 1
        LEFT JOIN total AS pre ON pre.u = exposed.u AND pre.p = 0
        ORDER BY unit
    """
    return opened.table("tables", query)


def _value(name: str, period: str) -> str:
    total = f"coalesce({period}.{column(name)}, 0)::DOUBLE"
    return f"{total} / {SECOND}" if name in _TIMES else total


def _days() -> str:
    """Bring what adds up over days together: one row per unit, period and day."""
    columns = ", ".join(f"sum({column(name)})::BIGINT AS {column(name)}" for name in ADDITIVE)
    return f"""
        CREATE TEMP TABLE unit_day AS
        SELECT u, p, d, {columns}
        FROM (SELECT * FROM stay UNION ALL BY NAME SELECT * FROM view_day UNION ALL BY NAME SELECT * FROM action_day)
        GROUP BY u, p, d
    """
