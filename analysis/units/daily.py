"""Sums per arm and day since exposure, from which the lift of each day is estimated without a row per unit."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from analysis.metrics import METRICS, Metric
from analysis.rules import DAY, SECOND, Study
from analysis.tables.database import Database, column
from analysis.units.actions import ADDITIVE

_TIMES: Final = frozenset({"stay_duration", "playtime"})


def daily_table(opened: Database, study: Study) -> pa.Table:
    """Return sums over units per arm, day and metric.

    A unit counts on a day that is wholly in the data. The columns are arm, day (0 is the first 24 hours), metric, n,
    and sums of the metric's numerator and denominator: sum, sum_squares, base, base_squares and cross (numerator times
    denominator). A mean metric has 1 per unit as its denominator, so that both kinds have one formula. Times are in
    seconds, and metrics are not winsorised. `active_days` counts the units that were active on the day.
    """
    columns = ", ".join(
        f"coalesce({column(name)}, 0) AS {column(name)}" for name in (*ADDITIVE, "active_days", "active_hours")
    )
    observed = f"""
        CREATE TEMP TABLE observed AS
        SELECT arm, day::INTEGER AS day, {columns}
        FROM (
            SELECT u, arm, unnest(range((until - exposed.t0) // {DAY})) AS day FROM exposed JOIN period USING (u)
        ) AS one
        LEFT JOIN unit_day ON unit_day.u = one.u AND unit_day.p = 1 AND unit_day.d = one.day
        LEFT JOIN active_daily ON active_daily.u = one.u AND active_daily.p = 1 AND active_daily.d = one.day
    """
    opened.run("tables", observed)
    parts = " UNION ALL ".join(_sums(place, metric) for place, metric in enumerate(METRICS))
    return opened.table("tables", f"SELECT * EXCLUDE place FROM ({parts}) ORDER BY arm, day, place")


def _sums(place: int, metric: Metric) -> str:
    scale = SECOND if metric.columns[0] in _TIMES else 1
    top = f"{column(metric.columns[0])}::HUGEINT"
    base = f"{column(metric.columns[1])}::HUGEINT" if metric.kind == "ratio" else "1::HUGEINT"
    return f"""
        SELECT {place} AS place, arm, day, '{metric.name}' AS metric, count(*) AS n,
               sum({top})::DOUBLE / {scale} AS sum, sum({top} * {top})::DOUBLE / {scale**2} AS sum_squares,
               sum({base})::DOUBLE AS base, sum({base} * {base})::DOUBLE AS base_squares,
               sum({top} * {base})::DOUBLE / {scale} AS cross
        FROM observed GROUP BY arm, day
    """
