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
_CREDITS: Final = (CREDIT, "like")
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
    """Return the tests of interleaving.json that found a difference.

    All plays of the demo are valid, so valid plays show which items were seen, not which were liked.
    """
    rows = [row for row in read_object(finding)["rows"] if row["credit"] in _CREDITS and row["error"]]
    rows = [row for row in rows if row["p"] < _CLEAR]
    return [Needed(row["credit"], row["users"], row["mean"] / row["error"]) for row in rows]


def of_ab(report: Path) -> list[Needed]:
    """Return the tests of report.json that found a difference."""
    found = {row["metric"]: row["estimate"] for row in read_object(report)["rows"] if row["estimate"]}
    tests = [(name, found[name]) for name in _METRICS if name in found and found[name]["p"] < _CLEAR]
    return [
        Needed(name, one["n_control"] + one["n_treatment"], one["difference"] / one["error"]) for name, one in tests
    ]


def show(console: Console, finding: Path, report: Path) -> None:
    """Print the users that each test needs, and how many times those of the credit that decides."""
    tests = of_interleaving(finding)
    decides = next((one for one in tests if one.name == CREDIT), None)
    if decides is None:
        console.print(f"Interleaving found no clear difference in {CREDIT} credit, so there is nothing to compare.")
        return
    table = Table(title="Users that a test needs, simulated", title_justify="left", box=SIMPLE)
    for name in ("test", "users", "z", "needs", "times"):
        table.add_column(name, justify="left" if name == "test" else "right", no_wrap=True)
    rows = [(f"interleaved, {one.name}", one) for one in tests] + [(f"A/B, {one.name}", one) for one in of_ab(report)]
    for name, one in rows:
        times = f"{one.needed / decides.needed:.1f}"
        table.add_row(name, f"{one.users:,}", f"{one.z:.1f}", f"{one.needed:,.0f}", times)
    console.print(table)
