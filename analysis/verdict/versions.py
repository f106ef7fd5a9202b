"""The versions that each arm served, and whether the arms moved on together.

An arm on a track changes its version while the experiment runs. If only one arm moves on, the difference of the arms is
also one of freshness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from analysis.rules import DAY
from analysis.tables.database import Database
from analysis.text import count, in_words
from analysis.verdict.gates import Gate

APART_MS: Final = 2 * DAY
"""How much later another arm may change its version and still move at the same rate."""


@dataclass(frozen=True)
class Served:
    """A version of an arm, by its exposures.

    Args:
        arm: the assigned one.
        model, version: of the arm at that time.
        first_ms, last_ms: of its exposures, server time (ms UTC).
        exposures: unforced ones.
    """

    arm: str
    model: str
    version: str
    first_ms: int
    last_ms: int
    exposures: int


def versions_served(opened: Database) -> tuple[Served, ...]:
    """Return the versions in the table `exposure`, which `analysis.units.table` has made, by arm and time."""
    query = """
        SELECT arm, coalesce(model, ''), coalesce(ver, ''), min(ts), max(ts), count(DISTINCT id)
        FROM exposure GROUP BY ALL ORDER BY 1, 4, 2, 3
    """
    return tuple(Served(*row) for row in opened.rows(query))


def told(served: Sequence[Served]) -> str:
    """Return the versions for people, arm by arm."""
    arms = dict.fromkeys(one.arm for one in served)
    return "; ".join(f"{arm} {in_words([_one(one) for one in served if one.arm == arm])}" for arm in arms)


def moved_together(served: Sequence[Served]) -> Gate | None:
    """Judge whether every change of an arm has one in each other arm within two days; None if no version changed."""
    changes = {arm: _changes(served, arm) for arm in dict.fromkeys(one.arm for one in served)}
    if not any(changes.values()):
        return None
    title = "Versions of the arms"
    end = max(one.last_ms for one in served)
    late = [
        f"{arm} moved to {change.model}@{change.version} on {_day(change.first_ms)}, {other} did not move within 2 days"
        for arm, moves in changes.items()
        for change in moves
        for other, others in changes.items()
        if other != arm and end - change.first_ms > APART_MS and not _is_near(change, others)
    ]
    moves = in_words([f"{arm} {count(len(found))}" for arm, found in changes.items()])
    if not late:
        return Gate("versions", title, "pass", f"The arms changed their versions together: {moves} times.")
    return Gate("versions", title, "warn", f"{late[0]}: the difference is also one of freshness ({moves} changes).")


def _changes(served: Sequence[Served], arm: str) -> list[Served]:
    return [one for one in served if one.arm == arm][1:]


def _is_near(change: Served, others: Sequence[Served]) -> bool:
    return any(abs(one.first_ms - change.first_ms) <= APART_MS for one in others)


def _one(one: Served) -> str:
    return f"{one.model}@{one.version} from {_day(one.first_ms)} ({count(one.exposures)} exposures)"


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
