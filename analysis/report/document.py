"""All that a report shows, before any layout."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from analysis.statistics.comparisons import Row
from analysis.verdict.gates import Gate
from analysis.verdict.sentence import Verdict
from analysis.verdict.versions import Served

LIMITS: Final[tuple[tuple[str, str], ...]] = (
    (
        "Interference",
        "If both models train on the log of all users, each learns from the other's users, and the difference shifts. "
        "Freeze both during the test, or train each on its own arm. Publish, follow and comment touch other users, "
        "so arms of users do not measure effects on creators.",
    ),
    (
        "Novelty and learning",
        "A new ranking can attract at first and tire later: look at the lift by day since exposure.",
    ),
    ("Seasonality", "Compare whole weeks only; a week is not a month, and a month is not a year."),
    (
        "Winner's curse",
        "An effect found with fewer units than planned is exaggerated on average, because chance helped to find it.",
    ),
    (
        "Adjusted p-values",
        "They take the number of metrics and arms into account. The intervals do not: no interval matches them.",
    ),
)
RULES: Final[tuple[tuple[str, str], ...]] = (
    (
        "Rule (c)",
        "Spans in the foreground less than 30 s apart are one, and the gap counts as use. Several devices of a user "
        "are united, not added.",
    ),
    (
        "Rule (f)",
        "An app in the foreground sends a heartbeat every 15 s; a silence of more than 120 s inside a span is cut out.",
    ),
    (
        "Window",
        "Every unit counts for the same number of days from its own first exposure; units whose window is not complete "
        "are left out. The same number of days before is its history.",
    ),
    (
        "History",
        "CUPED: the metric is adjusted by the same metric before the experiment, with one coefficient for both arms. "
        "Units without history have covariate 0 and an indicator. \N{LEFT DOUBLE QUOTATION MARK}Variance kept"
        "\N{RIGHT DOUBLE QUOTATION MARK} shows what is left of the variance.",
    ),
    (
        "Lift",
        "Treatment mean over control mean, both adjusted, less 1. Its interval is symmetric in the logarithm, so the "
        "upper side is longer. Means in the table are as measured.",
    ),
    (
        "Winsorised",
        "Values over the 99.9th percentile of the non-zero values of all arms are set to it. The raw lift is shown "
        "beside.",
    ),
    (
        "p-values",
        "Welch's test for means, the delta method over units for ratios. Primary metrics: Holm. Secondary metrics: "
        "Benjamini-Hochberg. Guardrails: one-sided, uncorrected, because missing harm costs more than a false alarm.",
    ),
    ("MDE", "The smallest true lift that a test of this size finds in 4 of 5 experiments."),
)


@dataclass(frozen=True)
class ArmSize:
    """An arm and how many units it has."""

    arm: str
    share: float | None  # planned
    exposed: int
    analysed: int  # with a complete window


@dataclass(frozen=True)
class DayLift:
    """The lift of a metric on one day since the first exposure, without history."""

    metric: str
    arm: str
    day: int
    units: int
    lift: float
    lift_low: float
    lift_high: float


@dataclass(frozen=True)
class Fact:
    """A line about the data: a name, a value for people, and the number."""

    name: str
    shown: str
    value: int | str | None = None


@dataclass(frozen=True)
class Report:
    """Everything in a report."""

    experiment: str
    alike: bool
    control: str
    simulated: bool
    window_days: int
    verdict: Verdict
    early: bool
    reading: str  # when this is, in words
    arms: tuple[ArmSize, ...]
    gates: tuple[Gate, ...]
    rows: tuple[Row, ...]
    days: tuple[DayLift, ...]
    facts: tuple[Fact, ...]
    versions: tuple[Served, ...]
    not_computed: tuple[str, ...]  # metrics that the experiment names and this analysis does not know

    def as_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the document as plain data; its first fields are those that a program reads first."""
        plain = asdict(self)
        plain["verdict"]["readable"] = self.verdict.readable
        for shown, row in zip(plain["rows"], self.rows, strict=True):
            shown["metric"], shown["title"] = row.metric.name, row.metric.title
            shown["kind"], shown["direction"], shown["definition"] = (
                row.metric.kind,
                row.metric.direction,
                row.metric.definition,
            )
            shown["mde"], shown["moved"] = row.mde, row.moved
        return {"schema": 1, **plain, "limits": dict(LIMITS), "rules": dict(RULES)}
