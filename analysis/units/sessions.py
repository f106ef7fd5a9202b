"""Time in the foreground: the spans of each device stitched, the devices of a unit united, the spans cut at hours.

Rules (docs/online-metrics.md), per unit and period, from events before the period's end only:

(a) a span of a device opens at `foreground` and closes at `background`;
(b) without `background` it closes 30 s after the device's last event, and never after the next `foreground`;
(c) spans of a device less than 30 s apart are one, and the gap counts;
(d) spans are cut at local midnight and at local hours;
(e) devices are united, not added;
(f) a silence of more than 120 s ends a span by rule (b); the next event of the device, other than `background`,
    continues it (docs/adr/0185-silence-ends-a-span.md);
(g) a local day counts 16 hours at most; what comes later that day does not count.
"""

from __future__ import annotations

from typing import Final

from analysis.rules import (
    ACTIVE,
    AFTER_LAST_EVENT,
    DAY,
    DAY_CAP,
    HOUR,
    LOOKBACK,
    MERGED_BELOW,
    SILENCE,
    Study,
)
from analysis.tables.database import Database
from analysis.units.events import Kind

_DEVICE: Final = "u, p, dev"


def stitch(database: Database, study: Study) -> None:
    """Create the tables `stay` (u, p, d, ms), `active` (u, p, days, hours) and `active_daily` (u, d, days, hours).

    d is the day since the unit's exposure; all of the period before it is day 0.
    """
    database.run("device spans", _ends(), _device_spans())
    database.run("sessions", _spans(study))
    database.run(
        "hours", _pieces(), _stay(), _active("active", "u, p", "hour // 24"), _active("active_daily", "u, p, d", "d")
    )
    database.run("hours", *(f"DROP TABLE {name}" for name in ("span_end", "device_span", "span", "piece")))


def _ends() -> str:
    """Each event while the device is in front begins a stretch: to the next event, or 30 s if that comes too late.

    Stretches that touch form a chain; only its first and its last event are kept, which are few.
    Events of one device, time and kind are interchangeable here, so that the order is complete without their ids.
    """
    opens = f"CASE kind WHEN {Kind.FOREGROUND:d} THEN true WHEN {Kind.BACKGROUND:d} THEN false END"
    reach = f"CASE {{}} WHEN {Kind.FOREGROUND:d} THEN {AFTER_LAST_EVENT} ELSE {SILENCE} END"
    return f"""
        CREATE TEMP TABLE span_end AS
        WITH seen AS (
            SELECT u, p, dev, ts, kind FROM event WHERE fault = 0 AND p >= 0
            UNION ALL  -- what came before a period shows which spans are open when it begins
            SELECT u, p + 1, dev, ts, kind FROM event JOIN exposed USING (u)
            WHERE fault = 0 AND p <= 0 AND (p = -1 OR ts >= t0 - {LOOKBACK})
        ),
        ordered AS (
            SELECT {_DEVICE}, ts, kind, ts - lag(ts) OVER device <= {reach.format("kind")} AS near,
                   lead(ts) OVER device - ts <= {reach.format("lead(kind) OVER device")} AS near_next,
                   last_value({opens} IGNORE NULLS) OVER (
                       PARTITION BY {_DEVICE} ORDER BY ts, kind ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
                   ) AS open,
                   last_value({opens} IGNORE NULLS) OVER (
                       PARTITION BY {_DEVICE} ORDER BY ts, kind ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                   ) AS was_open
            FROM seen WINDOW device AS (PARTITION BY {_DEVICE} ORDER BY ts, kind)
        ),
        ends AS (
            SELECT {_DEVICE}, ts, kind, CASE WHEN open AND NOT chained THEN ts END AS began,
                   CASE WHEN open AND NOT near_next THEN ts + {AFTER_LAST_EVENT}
                        WHEN NOT open AND chained THEN ts END AS ended
            FROM (SELECT {_DEVICE}, ts, kind, coalesce(open, false) AS open, coalesce(near_next, false) AS near_next,
                         coalesce(was_open AND near, false) AS chained FROM ordered)
        )
        SELECT * FROM ends WHERE began IS NOT NULL OR ended IS NOT NULL
    """


def _device_spans() -> str:
    """Pair the ends of chains, and merge spans of a device by rule (c)."""
    return f"""
        CREATE TEMP TABLE device_span AS
        WITH paired AS (
            SELECT {_DEVICE}, began, coalesce(ended, lead(ended) OVER device) AS ended
            FROM span_end WINDOW device AS (PARTITION BY {_DEVICE} ORDER BY ts, kind, ended NULLS FIRST)
        ),
        spans AS (SELECT * FROM paired WHERE began IS NOT NULL),
        marked AS (
            SELECT *, coalesce(began - lag(ended) OVER device >= {MERGED_BELOW}, true) AS apart
            FROM spans WINDOW device AS (PARTITION BY {_DEVICE} ORDER BY began, ended)
        ),
        numbered AS (
            SELECT *, count(*) FILTER (apart) OVER (
                PARTITION BY {_DEVICE} ORDER BY began, ended ROWS UNBOUNDED PRECEDING
            ) AS number FROM marked
        )
        SELECT u, p, min(began) AS began, max(ended) AS ended FROM numbered GROUP BY {_DEVICE}, number
    """


def _spans(study: Study) -> str:
    """Unite the devices by rule (e), and cut what is outside the period."""
    return f"""
        CREATE TEMP TABLE span AS
        WITH marked AS (
            SELECT *, coalesce(began > max(ended) OVER (
                PARTITION BY u, p ORDER BY began, ended ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ), true) AS apart FROM device_span
        ),
        numbered AS (
            SELECT *, count(*) FILTER (apart) OVER (
                PARTITION BY u, p ORDER BY began, ended ROWS UNBOUNDED PRECEDING
            ) AS number FROM marked
        ),
        united AS (SELECT u, p, min(began) AS began, max(ended) AS ended FROM numbered GROUP BY u, p, number)
        SELECT u, p, t0, tz, greatest(began, CASE p WHEN 1 THEN t0 ELSE t0 - {study.window} END) AS began,
               least(ended, CASE p WHEN 1 THEN until ELSE t0 END) AS ended
        FROM united JOIN period USING (u)
    """


def _pieces() -> str:
    """Cut the spans at days since exposure, and these at local hours, by rule (d)."""
    return f"""
        CREATE TEMP TABLE piece AS
        WITH days AS (
            SELECT *, unnest(CASE p WHEN 1 THEN range((began - t0) // {DAY}, (ended - 1 - t0) // {DAY} + 1)
                                    ELSE [0] END) AS d
            FROM span WHERE ended > began
        ),
        by_day AS (
            SELECT u, p, began AS span, d, tz,
                   CASE p WHEN 1 THEN greatest(began, t0 + d * {DAY}) ELSE began END AS began,
                   CASE p WHEN 1 THEN least(ended, t0 + (d + 1) * {DAY}) ELSE ended END AS ended
            FROM days
        ),
        hours AS (
            SELECT *, unnest(range((began + tz) // {HOUR}, (ended - 1 + tz) // {HOUR} + 1)) AS hour FROM by_day
        )
        SELECT u, p, d::SMALLINT AS d, span, hour, greatest(began, hour * {HOUR} - tz) AS began,
               least(ended, (hour + 1) * {HOUR} - tz) - greatest(began, hour * {HOUR} - tz) AS ms
        FROM hours
    """


def _stay() -> str:
    """Add up by rule (g): pieces of a local day count in their order until the cap is reached."""
    return f"""
        CREATE TEMP TABLE stay AS
        SELECT u, p, d, sum(greatest(0, least(ms, {DAY_CAP} - before)))::BIGINT AS stay_duration
        FROM (SELECT *, coalesce(sum(ms) OVER (
                  PARTITION BY u, p, hour // 24 ORDER BY began ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
              ), 0)::BIGINT AS before FROM piece)
        GROUP BY u, p, d
    """


def _active(name: str, unit: str, day: str) -> str:
    """Count days with a span of a second, and local hours with a second in all."""
    return f"""
        CREATE TEMP TABLE {name} AS
        SELECT {unit}, coalesce(active_days, 0) AS active_days, coalesce(active_hours, 0) AS active_hours
        FROM (
            SELECT {unit}, count(DISTINCT day) AS active_days
            FROM (
                SELECT {unit}, span, {day} AS day FROM piece GROUP BY {unit}, span, {day} HAVING sum(ms) >= {ACTIVE}
            )
            GROUP BY {unit}
        ) FULL JOIN (
            SELECT {unit}, count(*) AS active_hours
            FROM (SELECT {unit}, hour FROM piece GROUP BY {unit}, hour HAVING sum(ms) >= {ACTIVE})
            GROUP BY {unit}
        ) USING ({unit})
    """
