"""The report as one HTML file: it contains its styles and pictures and no script, and escapes all data."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import Final

from analysis.metrics import METRICS
from analysis.report import pictures
from analysis.report.document import LIMITS, RULES, Report
from analysis.report.table import GROUPS, HEADINGS, Cell, cells
from analysis.statistics.comparisons import Row
from analysis.text import count, percent
from analysis.verdict.gates import Gate

LABELS: Final = {
    "better": "Better",
    "worse": "Worse",
    "mixed": "Better and worse",
    "harm": "A guardrail got worse",
    "no_difference": "No difference seen",
    "not_readable": "Not readable",
}
STAY_RULES: Final = (
    "Stay duration: gaps under 30 s between two spans in the foreground count (rule c); silences over 120 s inside a "
    "span do not (rule f). Both rules move it by more than most experiments do."
)
_MARKS: Final = {"pass": "\N{CHECK MARK}", "warn": "!", "block": "\N{MULTIPLICATION SIGN}", "unknown": "?"}
_STATES: Final = {"pass": "passed", "warn": "a warning", "block": "blocks the verdict", "unknown": "not known"}


def page(report: Report) -> str:
    """Return the page."""
    title = f"{report.experiment}: {'A/A' if report.alike else 'A/B'} report"
    numbers = _numbers(report)
    if not report.verdict.readable:
        shown = "Numbers that must not decide anything"
        numbers = f'<section><details class="card"><summary>{shown}</summary>{numbers}</details></section>'
    body = f"""
<header>
<h1>{escape(report.experiment)} {_chip("A/A" if report.alike else "A/B")} {_simulated(report)}</h1>
<p class="lead">{escape(report.reading)}</p>
{_verdict(report)}
{_sizes(report)}
<p class="lead rules">{STAY_RULES}</p>
</header>
<main>
{_gates(report)}
{numbers}
{_words("How to read it", "Definitions, and the rules that move the numbers.", RULES)}
{_words("Metrics", "Per exposed unit over its window.", [(one.title, one.definition) for one in METRICS])}
{_words("Limits", "Reasons why a correct number can still mislead.", LIMITS)}
{_facts(report)}
</main>
<footer>python -m analysis report {escape(report.experiment)}. How to read it: docs/report.md.</footer>
"""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_style()}</style>\n</head>\n<body>{body}</body>\n</html>\n"
    )


def _style() -> str:
    return files("analysis.report").joinpath("page.css").read_text(encoding="utf-8")


def _chip(text: str, kind: str = "") -> str:
    return f'<span class="{f"chip {kind}".strip()}">{escape(text)}</span>'


def _simulated(report: Report) -> str:
    return _chip("simulated", "simulated") if report.simulated else ""


def _verdict(report: Report) -> str:
    kind = report.verdict.kind
    return (
        f'<div class="card verdict {kind}"><div class="label">{LABELS[kind]}</div>'
        f"<p>{escape(report.verdict.sentence)}</p></div>"
    )


def _sizes(report: Report) -> str:
    parts = []
    for arm in report.arms:
        planned = "" if arm.share is None else f", planned {percent(arm.share, signed=False)}"
        name = f"{arm.arm} (control)" if arm.arm == report.control != "control" else arm.arm
        parts.append(
            f'<div class="size"><dt>{escape(name)}</dt><dd>{count(arm.analysed)} units'
            f"<small>of {count(arm.exposed)} exposed{planned}</small></dd></div>"
        )
    return f'<dl class="sizes">{"".join(parts)}</dl>'


def _gates(report: Report) -> str:
    items = "".join(_gate(gate) for gate in report.gates)
    return _section(
        "Health gates",
        report,
        "They come before any lift; a gate that blocks blanks the verdict.",
        f'<ul class="gates">{items}</ul>',
    )


def _gate(gate: Gate) -> str:
    state = _STATES[gate.state]
    return (
        f'<li class="gate {gate.state}"><i role="img" aria-label="{state}" title="{state}">{_MARKS[gate.state]}</i>'
        f"<b>{escape(gate.title)}</b><p>{escape(gate.finding)}</p></li>"
    )


def _numbers(report: Report) -> str:
    estimated = [row for row in report.rows if row.estimate]
    parts = []
    if estimated:
        parts.append(_forest(report))
    parts.append(_table(report))
    if report.days:
        parts.append(_days(report))
    return "\n".join(parts)


def _forest(report: Report) -> str:
    colours = (
        ("better", "better beyond chance"),
        ("worse", "worse beyond chance"),
        ("plain", "not told from 0"),
        ("band", "± MDE: smaller effects are easily missed"),
    )
    key = "".join(f'<span style="--mark: var(--{name})">{text}</span>' for name, text in colours)
    drawn = "".join(
        f'<div class="{name}">{pictures.forest(report.rows, narrow=narrow)}</div>'
        for name, narrow in (("broad", False), ("narrow", True))
    )
    told = "Relative lift against the control with its 95% interval" + (
        ", valid at every reading." if report.early else "."
    )
    return _section("Lifts", report, told, f'<figure class="card forest"><div class="key">{key}</div>{drawn}</figure>')


def _table(report: Report) -> str:
    head = "".join(f"<th{_class(name)}>{escape(name)}</th>" for name in HEADINGS)
    rows = ""
    for role, title in GROUPS:
        members = [row for row in report.rows if row.role == role]
        if members:
            rows += f'<tr class="group"><th colspan="{len(HEADINGS)}">{title}</th></tr>'
            rows += "".join(_row(report, row) for row in members)
    told = "Means as measured; lifts adjusted by history where the row has a variance kept."
    return _section(
        "All metrics", report, told,
        f'<div class="card wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>',
    )  # fmt: skip


def _class(name: str) -> str:
    return ' class="flags"' if name == "Notes" else ""


def _row(report: Report, row: Row) -> str:
    return (
        "<tr>" + "".join(_cell(name, cell) for name, cell in zip(HEADINGS, cells(report, row), strict=True)) + "</tr>"
    )


def _cell(name: str, cell: Cell) -> str:
    if name == "Metric":
        return f"<td>{escape(cell.text)}{_small(cell)}</td>"
    kind = "flags" if name == "Notes" else cell.tone
    shown = f' class="{kind}"' if kind else ""
    label = f' data-name="{escape(name)}"' if cell.text and name != "Notes" else ""
    return f"<td{shown}{label}>{escape(cell.text)}{_small(cell)}</td>"


def _small(cell: Cell) -> str:
    return f"<small>{escape(cell.below)}</small>" if cell.below else ""


def _days(report: Report) -> str:
    titles = {one.name: one.title for one in METRICS}
    drawn = ""
    for metric in dict.fromkeys(one.metric for one in report.days):
        lifts = [one for one in report.days if one.metric == metric]
        drawn += f'<figure class="card">{pictures.days(lifts, titles[metric])}</figure>'
    told = "Without history and uncorrected, so single days mean little; look for a slope. " + _arms_of_days(report)
    return _section("Lift by day since exposure", report, told, f'<div class="days">{drawn}</div>')


def _arms_of_days(report: Report) -> str:
    arms = list(dict.fromkeys(one.arm for one in report.days))
    return f"Full line: {escape(arms[0])}; dashed: {escape(', '.join(arms[1:]))}." if len(arms) > 1 else ""


def _facts(report: Report) -> str:
    pairs = [(fact.name, fact.shown) for fact in report.facts]
    if report.not_computed:
        pairs.append(("Named by the experiment, not computed here", ", ".join(report.not_computed)))
    return _section("Data", report, "", f'<dl class="words data card">{_pairs(pairs)}</dl>')


def _words(title: str, told: str, pairs: Iterable[tuple[str, str]]) -> str:
    return f'<section><h2>{title}</h2><p class="lead">{told}</p><dl class="words card">{_pairs(pairs)}</dl></section>'


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs)


def _section(title: str, report: Report, told: str, content: str) -> str:
    lead = f'<p class="lead">{told}</p>' if told else '<p class="lead"></p>'
    return f"<section><h2>{title}{_simulated(report)}</h2>{lead}{content}</section>"
