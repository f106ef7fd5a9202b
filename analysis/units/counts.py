"""Counts for the health gates, and notes on what was read and what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from analysis.rules import DAY, LATE_DAYS, Study
from analysis.tables.database import Database, quoted
from analysis.tables.reading import damage_named, rows
from analysis.units.events import Fault

_PLATFORM: Final = "$.platform"
_COLUMNS: Final = ("id", "ts", "req", "unit", "arms", "outcome", "attributes", "rules", "moved")


@dataclass(frozen=True)
class Notes:
    """The data that a computation read, and what it did not count.

    Args:
        experiment: the key.
        salt: the experiment's.
        configurations: digests of the files under which its units were exposed.
        units: exposed units with one arm; the rows of the unit table.
        two_arms: units that were left out because they were exposed in two arms; more than 0.01% are a bug.
        complete: units with a complete window.
        unsettled: of these, the units with a last day for which events may still arrive and count.
        with_history: units with an event in the period before.
        forced: forced exposures, which are left out.
        data_from: the earliest event (ms UTC); None without events.
        data_until: what arrived at this time or later was not read (ms UTC).
        events: rows of activity that were read.
        repeats: rows left out because their id came before.
        broken: rows left out because they have no id, unit, type or time.
        faults: events of exposed units that were left out, by cause and arm.
        clamped: events of exposed units whose time is not the client's, by arm; they are counted.
    """

    experiment: str
    salt: str
    configurations: tuple[str, ...]
    units: int
    two_arms: int
    complete: int
    unsettled: int
    with_history: int
    forced: int
    data_from: int | None
    data_until: int
    events: int
    repeats: int
    broken: int
    faults: dict[str, dict[str, int]]
    clamped: dict[str, int]


def exposure_counts(opened: Database, folder: Path, study: Study) -> pa.Table:
    """Return counts per arm: the columns subject, value, arm and n.

    Subjects: `units` (value empty), `day` (of the first exposure, by the study's clock, UTC), `reason` and `platform`
    (an attribute of the ranking of the first exposure) count units. `exposure outcome` counts exposures, and
    `ranking outcome` counts rankings.
    """
    with damage_named(folder):
        rows(opened.connection, folder, "rankings", _COLUMNS).create_view("all_rankings", replace=True)
        opened.run("tables", f"CREATE TEMP TABLE ranking AS {_rankings(study)}")
    parts = [
        "SELECT 'units' AS subject, '' AS value, arm, count(*) AS n FROM exposed GROUP BY arm",
        f"SELECT 'day', {_day(study)}, arm, count(*) FROM exposed GROUP BY ALL",
        "SELECT 'reason', coalesce(reason, ''), arm, count(*) FROM exposed GROUP BY ALL",
        "SELECT 'platform', platform, exposed.arm, count(*) FROM exposed JOIN ranking USING (unit, req) "
        "WHERE platform IS NOT NULL GROUP BY ALL",
        "SELECT 'exposure outcome', coalesce(outcome, ''), arm, count(DISTINCT id) FROM exposure GROUP BY ALL",
        "SELECT 'ranking outcome', coalesce(outcome, ''), arm, count(*) FROM ranking GROUP BY ALL",
    ]
    query = " UNION ALL ".join(parts)
    return opened.table("tables", f"SELECT * FROM ({query}) ORDER BY subject, value, arm")


def _day(study: Study) -> str:
    """Return an SQL expression for the day of the first exposure; a simulated day has a number and no date."""
    if study.day_ms == DAY:
        return f"make_timestamp(t0 // {DAY} * {DAY} * 1000)::DATE::VARCHAR"
    return f"'simulated day ' || (t0 // {DAY} - (SELECT min(t0) // {DAY} FROM exposed) + 1)"


def _rankings(study: Study) -> str:
    return f"""
        SELECT unit, req, outcome, one.arm AS arm, json_extract_string(attributes, '{_PLATFORM}') AS platform,
               rules, moved
        FROM (SELECT unit, req, outcome, ts, attributes, rules, moved, unnest(arms) AS one FROM all_rankings)
        WHERE one.exp = {quoted(study.experiment)} AND coalesce(one.forced, 0) = 0
          AND ts < (SELECT end_ms FROM data)
    """


def notes(opened: Database, study: Study) -> Notes:
    """Return what was read and what was left out."""
    one, many = opened.value, opened.rows
    faults: dict[str, dict[str, int]] = {}
    query = "SELECT fault, arm, count(*) FROM event JOIN exposed USING (u) WHERE p >= 0 AND fault > 0 GROUP BY ALL"
    for fault, arm, count in many(f"{query} ORDER BY ALL"):
        faults.setdefault(Fault(fault).name.lower(), {})[arm] = count
    settled = f"{study.clock('end_ms')} >= ((until - 1) // {DAY} + {1 + LATE_DAYS}) * {DAY}"
    return Notes(
        experiment=study.experiment,
        salt=one("SELECT min(exp_salt) FROM exposure"),
        configurations=tuple(name for name, _ in many("SELECT cfg, count(*) FROM exposure GROUP BY cfg ORDER BY cfg")),
        units=one("SELECT count(*) FROM exposed"),
        two_arms=one("SELECT count(*) FROM two_arms"),
        complete=one("SELECT count(*) FROM period WHERE complete"),
        unsettled=one(f"SELECT count(*) FROM period, data WHERE complete AND NOT {settled}"),
        with_history=one("SELECT count(*) FROM period WHERE history"),
        forced=one("SELECT count(*) FROM experiment_exposure WHERE forced <> 0"),
        data_from=one("SELECT first_ts FROM data"),
        data_until=one("SELECT end_ms FROM data"),
        events=one("SELECT events FROM data"),
        repeats=one("SELECT repeats FROM data"),
        broken=one("SELECT broken FROM data"),
        faults=faults,
        clamped=dict(
            many(
                "SELECT arm, count(*) FROM event JOIN exposed USING (u) WHERE p >= 0 AND clamped = 1 "
                "GROUP BY ALL ORDER BY ALL"
            )
        ),
    )
