"""The online table: its columns and cells, for HTML and Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from analysis.report.document import Report
from analysis.statistics.comparisons import Row, Sequential
from analysis.text import p_text, percent, value

GROUPS: Final = (("primary", "Primary metrics"), ("guardrail", "Guardrails"), ("secondary", "Secondary metrics"))
_NONE: Final = "\N{EN DASH}"


@dataclass(frozen=True)
class Cell:
    """The text of a cell, a smaller text below it, and a tone: up, down or none."""

    text: str
    below: str = ""
    tone: str = ""


HEADINGS: Final = (
    "Metric", "Control", "Treatment", "Lift", "95% interval", "p", "Adjusted p", "Variance kept", "MDE", "Notes"
)  # fmt: skip


def cells(report: Report, row: Row) -> list[Cell]:
    """Return the cells of a row, one per heading."""
    several = len(report.arms) > 2
    first = Cell(row.metric.title, " \N{MIDDLE DOT} ".join([*([row.arm] if several else []), row.metric.unit]))
    found = row.estimate
    if found is None:
        return [first, *[Cell(_NONE) for _ in HEADINGS[2:]], Cell(", ".join(row.flags))]
    tone = {1: "up", -1: "down", 0: ""}[row.moved]
    raw = "" if row.raw is None else f"raw {percent(row.raw.lift)}"
    kept = _NONE if found.variance_kept is None else percent(found.variance_kept, signed=False)
    return [
        first,
        Cell(value(found.control)),
        Cell(value(found.treatment)),
        Cell(percent(found.lift), raw, tone),
        Cell(_range(found.lift_low, found.lift_high), _early(row, lambda one: _range(one.lift_low, one.lift_high))),
        Cell(p_text(found.p), _early(row, lambda one: p_text(one.p))),
        Cell(
            _NONE if row.adjusted_p is None else p_text(row.adjusted_p), "one-sided" if row.role == "guardrail" else ""
        ),
        Cell(kept),
        Cell(_NONE if row.mde is None else percent(row.mde, signed=False)),
        Cell(", ".join(row.flags)),
    ]


def _early(row: Row, text: Callable[[Sequential], str]) -> str:
    return "" if row.sequential is None else f"at any reading {text(row.sequential)}"


def _range(low: float, high: float) -> str:
    return f"{percent(low)} to {percent(high)}"
