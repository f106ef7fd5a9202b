"""The report's findings beside the planted truth. All numbers are simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from contract.files import read_object
from deploy.experiment_demo.live import Lived

_VERDICTS: Final = {True: "better", False: "no_difference"}  # by whether an effect is planted


_LATE_SHARE: Final = 0.1  # of a day


@dataclass(frozen=True)
class Finding:
    """One metric: what was planted, and what the report found."""

    metric: str
    role: str
    planted: float
    lift: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Return whether the interval contains the planted value."""
        return self.low <= self.planted <= self.high

    @property
    def has_sign(self) -> bool:
        """Return whether the interval is on the planted side of zero; true if nothing is planted and it has zero."""
        if not self.planted:
            return self.low <= 0 <= self.high
        return self.low > 0 if self.planted > 0 else self.high < 0


@dataclass(frozen=True)
class Outcome:
    """One experiment's report, judged."""

    experiment: str
    is_planted: bool
    verdict: str  # its kind
    sentence: str
    findings: tuple[Finding, ...]

    @property
    def is_right(self) -> bool:
        """Return whether the report finds what was planted: the verdict, and each primary metric's value and sign."""
        primaries = [one for one in self.findings if one.role == "primary"]
        found = all(one.holds and one.has_sign for one in primaries) if self.is_planted else True
        return bool(primaries) and self.verdict == _VERDICTS[self.is_planted] and found


def judge(experiment: str, report: Path, planted: Mapping[str, float] | None) -> Outcome:
    """Compare a report with the truth.

    Args:
        experiment: its key.
        report: report.json.
        planted: the true lifts by metric; None if the arms are alike.
    """
    document = read_object(report)
    rows = [row for row in document["rows"] if row["estimate"] and (planted is None or row["metric"] in planted)]
    findings = tuple(_finding(row, planted[row["metric"]] if planted else 0.0) for row in rows)
    verdict = document["verdict"]
    return Outcome(experiment, planted is not None, verdict["kind"], verdict["sentence"], findings)


def _finding(row: Mapping[str, Any], planted: float) -> Finding:  # Any: JSON
    found = row["estimate"]
    return Finding(row["metric"], row["role"], planted, found["lift"], found["lift_low"], found["lift_high"])


def show(console: Console, outcomes: Sequence[Outcome], lived: Lived, day_seconds: float) -> None:
    """Print the findings beside the truth."""
    totals = lived.totals
    console.print(
        f"Simulated: {totals.visits:,} rankings, {totals.events:,} events, {totals.degraded} degraded, "
        f"{totals.unlike} unlike those of the planted effect, {lived.retried} requests repeated, "
        f"visits at most {totals.late_ms:,} ms late."
    )
    if totals.late_ms > _LATE_SHARE * day_seconds * 1000:
        console.print(
            "[bold]This machine was too busy for such short days[/bold]: give a longer --day or fewer --users."
        )
    for outcome in outcomes:
        console.print(_table(outcome))
        label = "as planted" if outcome.is_right else "NOT as planted (fewer users than the default may show no sign)"
        console.print(f"[bold]{label}[/bold]: {outcome.sentence}\n")


def _table(outcome: Outcome) -> Table:
    table = Table(title=f"{outcome.experiment}, simulated users", title_justify="left", box=SIMPLE)
    for name in ("metric", "role"):
        table.add_column(name)
    for name in ("planted", "found", "95% interval", "holds it"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in outcome.findings:
        interval = f"{one.low:+.2%} to {one.high:+.2%}"
        table.add_row(
            one.metric, one.role, f"{one.planted:+.2%}", f"{one.lift:+.2%}", interval, "yes" if one.holds else "no"
        )
    return table
