"""The report as Markdown: the verdict, the gates, the table; without pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from analysis.report.document import LIMITS, RULES, Report
from analysis.report.table import GROUPS, HEADINGS, Cell, cells
from analysis.text import count, percent

_STATES: Final = {"pass": "pass", "warn": "warning", "block": "**blocks**", "unknown": "not known"}
_SPECIAL: Final = str.maketrans({one: f"\\{one}" for one in r"\`*_{}[]<>#|~"} | {"\n": " ", "\r": " "})


def document(report: Report) -> str:
    """Return the Markdown."""
    mark = " (simulated)" if report.simulated else ""
    parts = [
        f"# {plain(report.experiment)}: {'A/A' if report.alike else 'A/B'} report{mark}",
        f"**{plain(report.verdict.sentence)}**",
        plain(report.reading),
        *_table(["Arm", "Planned", "Exposed", "Analysed"], [_size(report, place) for place in range(len(report.arms))]),
        f"## Health gates{mark}",
        *_table(
            ["Gate", "State", "Finding"],
            [[plain(one.title), _STATES[one.state], plain(one.finding)] for one in report.gates],
        ),
    ]
    if report.verdict.readable:
        for role, title in GROUPS:
            rows = [[_shown(cell) for cell in cells(report, row)] for row in report.rows if row.role == role]
            parts += [f"## {title}{mark}", *_table(HEADINGS, rows)] if rows else []
    else:
        parts.append("The lifts are not shown, because a gate blanks the verdict; report.json has them.")
    parts += [f"## Data{mark}", *_list((fact.name, fact.shown) for fact in report.facts)]
    if report.not_computed:
        parts.append(f"Named by the experiment, not computed here: {plain(', '.join(report.not_computed))}.")
    parts += ["## How to read it", *_list(RULES), "## Limits", *_list(LIMITS)]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Return a text without any meaning as Markdown or HTML."""
    return text.translate(_SPECIAL)


def _size(report: Report, place: int) -> list[str]:
    arm = report.arms[place]
    planned = "not known" if arm.share is None else percent(arm.share, signed=False)
    return [plain(arm.arm), planned, count(arm.exposed), count(arm.analysed)]


def _shown(cell: Cell) -> str:
    return plain(f"{cell.text} ({cell.below})" if cell.below else cell.text)


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [names, ["---"] * len(names), *rows]
    return ["\n".join(f"| {' | '.join(line)} |" for line in lines)]


def _list(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return ["\n".join(f"- {plain(name)}: {plain(text)}" for name, text in pairs)]
