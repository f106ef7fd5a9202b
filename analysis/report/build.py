"""From tables to the document of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from analysis.report.document import ArmSize, DayLift, Fact, Report
from analysis.statistics.comparisons import Roles, Units, compare, roles_of
from analysis.statistics.estimates import Sums, from_sums
from analysis.statistics.sequence import DEFAULT_PLANNED
from analysis.text import count, in_words
from analysis.units.counts import Notes
from analysis.units.table import Tables
from analysis.verdict import moved
from analysis.verdict.health import Health, all_gates
from analysis.verdict.sentence import verdict
from analysis.verdict.setup import Setup
from analysis.verdict.versions import told

CAUSES: Final = {
    "ahead": "time more than a day after arrival",
    "late": "arrived after the third day",
    "type": "unknown type",
    "range": "play time or length out of range",
    "key": "without the view, item or author that the type needs",
}
"""Why an event is not counted, by `analysis.units.events.Fault`."""
_DAY_UNITS: Final = 100  # per arm: fewer give intervals that fill the picture


@dataclass(frozen=True)
class Reading:
    """When the report is read.

    Args:
        planned: units of all arms at the planned end; None if only the file's end is known.
        simulated: no real users.
        window_days: length of the windows.
    """

    planned: int | None = None
    simulated: bool = False
    window_days: int = 14


def build(tables: Tables, health: Health, setup: Setup, reading: Reading) -> Report:
    """Return the report of an experiment."""
    units = Units(tables.units)
    gates = all_gates(units, tables.counts, tables.notes, health, setup)
    roles, unknown = roles_of(setup.primary, setup.guardrails, setup.secondary)
    exposed = _exposed(tables.units)
    arms = setup.treatments(exposed)
    analysed = sum(units.counts.values())
    early = _is_early(analysed, tables.notes, setup, reading)
    planned = {arm: _planned(arm, setup, reading) for arm in arms} if early else None
    rows = compare(units, roles, arms, setup.control, planned)
    return Report(
        experiment=setup.experiment,
        alike=setup.alike,
        control=setup.control,
        simulated=reading.simulated,
        window_days=reading.window_days,
        verdict=verdict(
            gates, rows, control=setup.control, alike=setup.alike, early=early, simulated=reading.simulated
        ),
        early=early,
        reading=_when(analysed, setup, reading, early),
        arms=tuple(_size(arm, setup, exposed, units.counts) for arm in (setup.control, *arms)),
        gates=gates,
        rows=tuple(rows),
        days=tuple(_days(tables.daily, roles, arms, setup.control, reading)),
        facts=tuple(_facts(tables.notes, health)),
        versions=health.versions,
        not_computed=tuple(unknown),
    )


def _exposed(units: pa.Table) -> dict[str, int]:
    counted: list[dict[str, Any]] = units["arm"].value_counts().to_pylist()  # Any: a text and a number
    return {one["values"]: one["counts"] for one in sorted(counted, key=lambda one: str(one["values"]))}


def _size(arm: str, setup: Setup, exposed: Mapping[str, int], analysed: Mapping[str, int]) -> ArmSize:
    share = None if setup.shares is None else setup.shares.get(arm, 0) / sum(setup.shares.values())
    return ArmSize(arm, share, exposed.get(arm, 0), analysed.get(arm, 0))


def _is_early(analysed: int, notes: Notes, setup: Setup, reading: Reading) -> bool:
    if reading.planned is not None:
        return analysed < reading.planned
    return setup.end is not None and notes.data_until < setup.end.timestamp() * 1000


def _planned(arm: str, setup: Setup, reading: Reading) -> int:
    """Return the planned units of the control and an arm together."""
    if reading.planned is None:
        return DEFAULT_PLANNED
    if setup.shares is None:
        return reading.planned
    both = setup.shares[setup.control] + setup.shares[arm]
    return max(1, round(reading.planned * both / sum(setup.shares.values())))


def _when(analysed: int, setup: Setup, reading: Reading, early: bool) -> str:
    parts = [f"{count(analysed)} units with a complete window of {reading.window_days} days."]
    if reading.planned is not None:
        parts.append(f"Planned: {count(reading.planned)} units.")
    elif setup.end is not None:
        parts.append(f"Planned end: {setup.end:%Y-%m-%d %H:%M} UTC.")
    else:
        parts.append("The planned end is not known: the p-values are valid for one reading, at a size chosen before.")
    if early:
        parts.append("Read before the planned end, so the intervals and p-values valid at every reading decide.")
    return " ".join(parts)


def _days(daily: pa.Table, roles: Roles, arms: tuple[str, ...], control: str, reading: Reading) -> list[DayLift]:
    rows: list[dict[str, Any]] = daily.to_pylist()  # Any: columns of several types
    sums = {
        (row["metric"], row["arm"], row["day"]): Sums(
            *(row[name] for name in ("n", "sum", "sum_squares", "base", "base_squares", "cross"))
        )
        for row in rows
        if row["metric"] in roles.primary and row["day"] < reading.window_days
    }
    found = []
    for (metric, arm, day), treatment in sums.items():
        base = sums.get((metric, control, day))
        if arm not in arms or base is None or min(base.n, treatment.n) < _DAY_UNITS:
            continue
        one = from_sums(base, treatment)
        if one is not None:
            units = base.n + treatment.n
            found.append(DayLift(metric, arm, day, units, one.lift, one.lift_low, one.lift_high))
    return sorted(found, key=lambda one: (roles.primary.index(one.metric), arms.index(one.arm), one.day))


def _facts(notes: Notes, health: Health) -> list[Fact]:
    versions, rules = health.versions, health.rules
    start = "no events" if notes.data_from is None else _utc(notes.data_from)
    broken = {"repeated": notes.repeats, "without id, unit, type or time": notes.broken}
    return [
        Fact("Data", f"{start} to {_utc(notes.data_until)}"),
        Fact("Salt", notes.salt),
        Fact("Configurations", f"{len(notes.configurations)}: {', '.join(notes.configurations)}"),
        *([Fact("Versions served", told(versions))] if any(one.version for one in versions) else []),
        *([Fact("Rules after scoring", moved.told(rules))] if rules else []),
        Fact("Exposed units", count(notes.units), notes.units),
        Fact("Units in two arms, left out", count(notes.two_arms), notes.two_arms),
        Fact("Forced exposures, left out", count(notes.forced), notes.forced),
        Fact("Complete windows", count(notes.complete), notes.complete),
        Fact("Complete, but late events may still arrive", count(notes.unsettled), notes.unsettled),
        Fact("Units with history", count(notes.with_history), notes.with_history),
        Fact("Events read", count(notes.events), notes.events),
        *[Fact(f"Rows left out: {name}", count(number), number) for name, number in broken.items()],
        *[Fact(f"Events not counted: {text}", *_by_arm(notes.faults.get(cause, {}))) for cause, text in CAUSES.items()],
        Fact("Events whose client time was moved, counted", *_by_arm(notes.clamped)),
        Fact(
            "Events that the service refused or dropped",
            "not in these data: ranker_feedback_refused_total and ranker_feedback_dropped_total count them",
        ),
    ]


def _by_arm(arms: Mapping[str, int]) -> tuple[str, int]:
    total = sum(arms.values())
    split = in_words([f"{arm} {count(number)}" for arm, number in arms.items()])
    return (f"{count(total)} ({split})" if total else "0"), total


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
