"""The events of the exposed units: each once, on the study's clock, as numbers; and which of them are not counted."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from typing import Final

from analysis.rules import AHEAD, DAY, LATE_DAYS, LOOKBACK, MINUTE, Study
from analysis.tables.database import Database, quoted
from analysis.tables.reading import check, table_files
from analysis.tables.schemas import ACTIVITY


class Kind(IntEnum):
    """The kind of an event. Events of a device at one millisecond are taken in this order."""

    PRESENCE = 0  # shows that the device is in front, as all others below BACKGROUND do
    PLAY_START = 1
    PLAY_END = 2
    PLAY = 3  # a whole view in one event
    FINISH = 4  # the same, to the end
    LIKE = 5
    UNLIKE = 6
    FOLLOW = 7
    UNFOLLOW = 8
    DISLIKE = 9
    COMMENT = 10
    SHARE = 11
    PUBLISH = 12
    BACKGROUND = 20
    FOREGROUND = 21


class Fault(IntEnum):
    """Why an event is not counted; the first that applies."""

    NONE = 0
    AHEAD = 1  # its time is more than 24 hours after its arrival
    LATE = 2  # it arrived after the third day after its own
    TYPE = 3  # of a type that the analysis does not know
    RANGE = 4  # a play time or a length below 0, or a play time above 24 hours
    KEY = 5  # without the view, item or author that its type needs


_PRESENCE: Final = ("heartbeat", "impression", "click", "purchase", "rate")
_ORDER: Final = "ts, fault, u, p, kind, dev, key, play_ms, duration_ms, tz, clamped"
_TZ_LIMIT: Final = 14 * 60  # minutes


def read_events(database: Database, folder: Path, study: Study) -> None:
    """Create the tables `event`, `period` (per unit) and `data` (one row about all of the activity).

    `event` has u; p, the period (1: window, 0: the period before it, -1: the day before that); ts; kind; dev; key, the
    view, item or author; play_ms; duration_ms; tz, minutes; id, of actions only; clamped; fault. Texts other than ids
    are 64-bit hashes: they are compared within one unit only.
    """
    files = table_files(folder, "activity")
    for file in files:
        check(file, ACTIVITY)
    names = ", ".join(quoted(str(file)) for file in files)
    source = f"read_parquet([{names}], hive_partitioning = false)" if files else "no_activity"
    database.connection.register("no_activity", ACTIVITY.empty_table())
    database.run("repeats", _repeats(source))
    database.run("data", _data(source, study))
    database.run("events", _events(source, study), *_without_repeats(), _periods(study))


def _repeats(source: str) -> str:
    """Ids are compared by their hash first, which takes a third of the memory; few rows are left to compare."""
    return f"""
        CREATE TEMP TABLE repeated AS
        SELECT hash(id) AS h, count(*) AS n FROM {source} WHERE id IS NOT NULL GROUP BY h HAVING n > 1
    """


def _data(source: str, study: Study) -> str:
    """Count what belongs to no unit, and find the end of the data."""
    end = "NULL" if study.end_ms is None else str(study.end_ms)
    return f"""
        CREATE TEMP TABLE data AS
        SELECT count(*) AS events, count(*) FILTER ({_broken()}) AS broken, min(ts) AS first_ts,
               (SELECT coalesce(sum(n - 1), 0) FROM repeated)::BIGINT AS repeats,
               coalesce({end}, greatest(max(received), max(ts), (SELECT max(ts) FROM exposure)) + 1) AS end_ms
        FROM {source}
    """


def _broken() -> str:
    return "id IS NULL OR unit IS NULL OR unit = '' OR ts IS NULL OR ts <= 0 OR type IS NULL"


def _events(source: str, study: Study) -> str:
    """Read everything once: rows whose id may repeat are marked, and kept wherever they are in time."""
    begin, end = f"t0 - {study.window}", f"t0 + {study.window}"
    return f"""
        CREATE TEMP TABLE event AS
        WITH row AS (
            SELECT unit, {study.clock("ts")} AS ts, {study.clock("coalesce(received, ts)")} AS received,
                   {_kind()} AS kind, hash(device) AS dev, play_ms, duration_ms, tz_offset, id, view, item, author,
                   clamped, hash(id) IN (SELECT h FROM repeated) AS again
            FROM {source} WHERE NOT ({_broken()}) AND coalesce(received, ts) < (SELECT end_ms FROM data)
        )
        SELECT u, (CASE WHEN ts >= {end} THEN 2 WHEN ts >= t0 THEN 1 WHEN ts >= {begin} THEN 0
                        WHEN ts >= {begin} - {LOOKBACK} THEN -1 ELSE -2 END)::TINYINT AS p, ts, kind, dev,
               {_key()} AS key, play_ms, CASE WHEN duration_ms > 0 THEN duration_ms END AS duration_ms,
               (CASE WHEN abs(tz_offset) <= {_TZ_LIMIT} THEN tz_offset END)::SMALLINT AS tz,
               CASE WHEN again OR kind BETWEEN {Kind.LIKE:d} AND {Kind.PUBLISH:d} THEN id END AS id,
               coalesce(clamped, 0)::TINYINT AS clamped, {_fault()} AS fault, again
        FROM row JOIN exposed USING (unit)
        WHERE again OR (ts >= {begin} - {LOOKBACK} AND ts < {end})
    """


def _without_repeats() -> tuple[str, ...]:
    """Keep the earliest row of an id. Rows that are equal in all columns are interchangeable."""
    return (
        f"""
        CREATE TEMP TABLE earliest AS
        SELECT * FROM event WHERE again
        QUALIFY row_number() OVER (PARTITION BY id ORDER BY {_ORDER}) = 1
        """,
        "DELETE FROM event WHERE again",
        "INSERT INTO event SELECT * FROM earliest WHERE p BETWEEN -1 AND 1",
        "DROP TABLE earliest",
    )


def _periods(study: Study) -> str:
    """A unit has one offset from UTC, so that a traveller gains no day: the last one known before its exposure.

    If several come at one millisecond, the largest is taken. A unit that sent none before has the first one after.
    """
    offset = "ts::HUGEINT * 2048 + tz + 1024"  # with short days, times on the study's clock take 53 bits
    return f"""
        CREATE TEMP TABLE period AS
        SELECT u, t0, least(t0 + {study.window}, {study.clock("end_ms")}) AS until,
               t0 + {study.window} <= {study.clock("end_ms")} AS complete, coalesce(seen.events > 0, false) AS history,
               coalesce((coalesce(seen.before, seen.after) % 2048)::BIGINT - 1024, 0) * {MINUTE} AS tz
        FROM exposed CROSS JOIN data LEFT JOIN (
            SELECT u, max({offset}) FILTER (p < 1) AS before, min({offset}) FILTER (p = 1) AS after,
                   count(*) FILTER (p = 0 AND fault = 0) AS events
            FROM event GROUP BY u
        ) AS seen USING (u)
    """


def _kind() -> str:
    """Unknown types are null."""
    known = [f"WHEN '{kind.name.lower()}' THEN {kind:d}" for kind in Kind if kind is not Kind.PRESENCE]
    known += [f"WHEN '{name}' THEN {Kind.PRESENCE:d}" for name in _PRESENCE]
    return f"(CASE type {' '.join(known)} END)::TINYINT"


def _key() -> str:
    """Return an expression for the thing that an event is about; null where it is missing."""
    return f"""
        hash(CASE WHEN kind IN ({Kind.PLAY_START:d}, {Kind.PLAY_END:d}) THEN view
                  WHEN kind IN ({Kind.PLAY:d}, {Kind.FINISH:d}) THEN coalesce(view, id)
                  WHEN kind IN ({Kind.FOLLOW:d}, {Kind.UNFOLLOW:d}) THEN coalesce('author ' || author, 'item ' || item)
                  WHEN kind = {Kind.PUBLISH:d} THEN coalesce(item, id)
                  ELSE item END)
    """


def _fault() -> str:
    needs_view = f"kind IN ({Kind.PLAY_START:d}, {Kind.PLAY_END:d}) AND view IS NULL"
    needs_author = f"kind IN ({Kind.FOLLOW:d}, {Kind.UNFOLLOW:d}) AND author IS NULL AND item IS NULL"
    keyed = ", ".join(str(int(kind)) for kind in (Kind.LIKE, Kind.UNLIKE, Kind.COMMENT, Kind.SHARE))
    return f"""
        (CASE WHEN ts > received + {AHEAD} THEN {Fault.AHEAD:d}
              WHEN received >= (ts // {DAY} + {1 + LATE_DAYS}) * {DAY} THEN {Fault.LATE:d}
              WHEN kind IS NULL THEN {Fault.TYPE:d}
              WHEN play_ms NOT BETWEEN 0 AND {DAY} OR duration_ms < 0 THEN {Fault.RANGE:d}
              WHEN {needs_view} OR {needs_author} OR (kind IN ({keyed}) AND item IS NULL) THEN {Fault.KEY:d}
              ELSE {Fault.NONE:d} END)::TINYINT
    """
