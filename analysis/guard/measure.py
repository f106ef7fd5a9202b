"""Guardrails of each arm, from the Parquet tables."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from analysis.guard.rails import RAILS, Arm
from analysis.rules import SPEED, Study
from analysis.tables.database import Database
from analysis.tables.reading import rows, table_files
from analysis.units.exposed import find_exposed

SETTLE_MS: Final = 600_000  # the default; after a window: events of its end may still be on their way to Parquet
_BEFORE_MS: Final = 1_000  # the ranking of the first exposure may have an earlier time than the exposure
_MOST_SECONDS: Final = 57_600  # played by a unit in a window

_RANKINGS: Final = """
    SELECT e.unit, any_value(e.arm) AS arm,
           avg((outcome IN ('error', 'refused'))::INTEGER) AS errors,
           avg((outcome = 'degraded')::INTEGER) AS degraded,
           avg(ln(latency_us + 1)) FILTER (WHERE outcome IN ('ok', 'degraded')) AS latency
    FROM complete AS e JOIN ranking_rows AS r
      ON r.unit = e.unit AND r.ts >= e.exposed_ts - {before} AND r.ts < e.exposed_ts + {window}
    GROUP BY e.unit
"""
_ACTIVITY: Final = """
    SELECT e.unit, any_value(e.arm) AS arm,
           coalesce(count(*) FILTER (WHERE type = 'dislike'), 0)::DOUBLE AS dislike,
           least(coalesce(sum(least(play_ms, coalesce({speed} * duration_ms, play_ms))) FILTER (
               WHERE type IN ('play_end', 'play') AND play_ms > 0), 0)::DOUBLE / 1000, {most}) AS playtime
    FROM complete AS e LEFT JOIN activity_rows AS a
      ON a.unit = e.unit AND a.ts >= e.exposed_ts AND a.ts < e.exposed_ts + {window}
    GROUP BY e.unit
"""
_TABLES: Final = {"rankings": ("ranking_rows", _RANKINGS), "activity": ("activity_rows", _ACTIVITY)}
_COLUMNS: Final = {"rankings": ("errors", "degraded", "latency"), "activity": ("dislike", "playtime")}


def measure(
    database: Database, folder: Path, experiment: str, window_ms: int, now_ms: int, settle_ms: int = SETTLE_MS
) -> dict[str, dict[str, Arm]]:
    """Return the guardrails of each arm; those of a table without files are left out.

    Args:
        database: empty.
        folder: that the sink writes.
        experiment: its key.
        window_ms: length of a unit's window.
        now_ms: units whose window ends after this, or shortly before, are left out.
        settle_ms: how shortly before.

    Raises:
        CommandError: the experiment has no exposures, or a file is damaged.
    """
    find_exposed(database, folder, Study(experiment, end_ms=now_ms))
    last = now_ms - window_ms - settle_ms
    database.run("complete", f"CREATE TEMP TABLE complete AS SELECT * FROM exposed WHERE exposed_ts <= {last}")
    arms: dict[str, dict[str, Arm]] = {}
    for table, (view, query) in _TABLES.items():
        if table_files(folder, table):
            rows(database.connection, folder, table).create_view(view)
            values = query.format(before=_BEFORE_MS, window=window_ms, speed=SPEED, most=_MOST_SECONDS)
            _add(arms, database, values, _COLUMNS[table])
    return arms


def _add(arms: dict[str, dict[str, Arm]], database: Database, values: str, columns: tuple[str, ...]) -> None:
    known = {rail.key for rail in RAILS}
    for column in columns:
        moments = f"count({column}), avg({column}), coalesce(var_samp({column}), 0)"
        for arm, n, mean, variance in database.rows(f"SELECT arm, {moments} FROM ({values}) GROUP BY arm ORDER BY arm"):
            if n and column in known:
                arms.setdefault(arm, {})[column] = Arm(n, mean, variance)
