"""How many fewer users interleaving needs than the A/B experiment beside it. All numbers are simulated.

Both ran at the same time on halves of the same users. The users that a test needs to find a difference in 4 of 5 cases
are those that it had, times 7.85 over the square of its z: the difference in standard errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from contract.files import read_object

CREDIT: Final = "finish"
_METRICS: Final = ("active_days", "stay_duration", "playtime", "finish", "like")
_CLEAR: Final = 0.01  # below this p, z is large enough to divide by
_FOUND_IN_4_OF_5: Final = 7.849  # the square of 1.960 + 0.842


class Needed(NamedTuple):
    """A test's result, and the users that it needs."""

    name: str
    users: int  # that it had, in all arms
    z: float

    @property
    def needed(self) -> float:
        """Return how many users find this difference in 4 of 5 experiments."""
        return self.users * _FOUND_IN_4_OF_5 / self.z**2


def of_interleaving(finding: Path) -> list[Needed]:
    """Return the tests of interleaving.json that found a difference, the primary one first."""
    rows = [row for row in read_object(finding)["rows"] if row["error"] and row["p"] < _CLEAR]
    return [Needed(row["credit"], row["users"], row["mean"] / row["error"]) for row in rows]


def of_ab(report: Path) -> list[Needed]:
    """Return the tests of report.json that found a difference."""
    found = {row["metric"]: row["estimate"] for row in read_object(report)["rows"] if row["estimate"]}
    tests = [(name, found[name]) for name in _METRICS if name in found and found[name]["p"] < _CLEAR]
    return [
        Needed(name, one["n_control"] + one["n_treatment"], one["difference"] / one["error"]) for name, one in tests
    ]


def show(console: Console, finding: Path, report: Path) -> None:
    """Print the users that both need, and the factors."""
    tests, ab = of_interleaving(finding), of_ab(report)
    table = Table(title="Users that a test needs, simulated", title_justify="left", box=SIMPLE)
    for name in ("test", "users", "z", "needs", *(f"over {one.name} credit" for one in tests)):
        table.add_column(name, justify="left" if name == "test" else "right")
    for one in tests:
        table.add_row(f"interleaving, {one.name} credit", f"{one.users:,}", f"{one.z:.1f}", f"{one.needed:,.0f}")
    for one in ab:
        shares = [f"{one.needed / own.needed:.1f}" for own in tests]
        table.add_row(f"A/B, {one.name}", f"{one.users:,}", f"{one.z:.1f}", f"{one.needed:,.0f}", *shares)
    console.print(table)
