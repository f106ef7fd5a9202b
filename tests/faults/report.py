"""Writes the results: JSON for programs, Markdown for people."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.load.world import conditions
from benchmarks.markdown import table
from tests.faults.row import ABSENT, FAMILIES, ROWS, Figure, Outcome, Row
from tests.faults.traffic import LOST, REFUSED

_RULE_OF_THREE = 3.0
_POISONED = "M15"  # the row whose poisoned requests get 500, and only they
_COMMANDS = {
    "quick": "make faults", "short": "python -m tests.faults --short", "full": "make faults-full"
}  # fmt: skip
_Z_95 = 1.96


def write(folder: Path, outcomes: Sequence[Outcome], *, size: str, seconds: float) -> None:
    """Write the results of a run: quick, short or full."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{size}.json").write_text(json.dumps(document(outcomes, seconds), indent=1) + "\n", encoding="utf-8")
    (folder / f"{size}.md").write_text("\n".join(page(outcomes, seconds, size)) + "\n", encoding="utf-8")


def document(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    facts = conditions()
    return {
        "conditions": facts,
        "seconds": round(seconds),
        "totals": totals(outcomes),
        "rows": [
            {
                "rows": one.row.names, "title": one.row.title, "family": one.row.family, "seed": one.seed,
                "problems": one.problems, "counts": one.counts, "by_arm": one.by_arm, "notes": one.notes,
                "tests": one.row.tests, "tests_run": one.tests_run, "seconds": round(one.seconds, 1),
                "commit": one.commit or facts["commit"],
                "figures": [{**figure._asdict(), "reached": figure.is_reached} for figure in one.figures],
            }
            for one in outcomes
        ],
        "absent": [{"rows": one.names, "title": one.title, "why": one.why} for one in ABSENT],
    }  # fmt: skip


def read(folder: Path, size: str) -> list[Outcome]:
    """Return the results that are there of rows that still exist."""
    path = folder / f"{size}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    by_name = {(row.names, row.title): row for row in ROWS}
    rows = [{"commit": found["conditions"]["commit"], **one} for one in found["rows"]]
    return [_outcome(row, one) for one in rows if (row := by_name.get((tuple(one["rows"]), one["title"])))]


def _outcome(row: Row, one: Mapping[str, Any]) -> Outcome:
    fields = {name: one[name] for name in ("problems", "counts", "notes", "seconds", "tests_run", "commit")}
    figures = [Figure(**{name: part for name, part in each.items() if name != "reached"}) for each in one["figures"]]
    return Outcome(row, one["seed"], figures=figures, by_arm=one.get("by_arm", {}), **fields)


def lengths(folder: Path, size: str, rows: Sequence[Row]) -> list[str]:
    """Return a line for each row, with the seconds of all of its runs the last time, and their sum."""
    found: Counter[Row] = Counter()
    for one in read(folder, size):
        found[one.row] += round(one.seconds)
    lines = [f"{found[row] or '-':>6} s  {' '.join(row.names)}: {row.title}" for row in rows]
    unknown = sum(row not in found for row in rows)
    return [*lines, f"{sum(found[row] for row in rows) / 60:.0f} minutes; {unknown} of {len(rows)} rows not measured"]


def totals(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Return requests by fate, over all runs of the service."""
    counts: Counter[str] = Counter()
    server_errors = 0
    for one in outcomes:
        counts.update(one.counts)
        server_errors += 0 if _POISONED in one.row.names else one.counts.get("500", 0)
    late = counts.pop("late", 0)
    return {
        "requests": sum(counts.values()), "lost": sum(counts[fate] for fate in LOST),
        "refused": sum(counts[fate] for fate in REFUSED), "wrong": counts["wrong"], "late": late,
        "unexpected 5xx": server_errors,
        **{fate: counts[fate] for fate in sorted(counts) if fate not in LOST | REFUSED | {"wrong"}},
    }  # fmt: skip


def page(outcomes: Sequence[Outcome], seconds: float, size: str) -> list[str]:
    found, facts = totals(outcomes), conditions()
    command = _COMMANDS[size]
    commits = sorted({one.commit or facts["commit"] for one in outcomes})
    failed = [one for one in outcomes if one.problems]
    return [
        f"# Faults: the {size} run", "",
        f"`{command}`, {seconds / 60:.0f} minutes; {facts['cores']} cores ({facts['processor']}); Python "
        f"{facts['python']}; commit {' and '.join(commits)}, {facts['date']}.", "",
        f"{len(outcomes)} runs of {len({one.row.names for one in outcomes})} rows; {len(failed)} with problems.",
        f"{found['requests']:,} requests: {found['lost']} lost, {found['refused']} refused a connection, "
        f"{found['wrong']} wrong answers, {found['unexpected 5xx']} unexpected 5xx, {found['late']} later than their "
        "deadline and 50 ms.",
        _bound(found), "",
        "## Bars", "", *table(("Bar", "Figure", "Row", "Must be", "Measured", "", "Plain build"), _bars(outcomes)), "",
        "The value is the median over seeds. The plain build is stock FastAPI, uvicorn and redis-py behind the same "
        "route, in the same run.", "",
        "## Shed and degraded answers by arm (V9)", "", *_arms(outcomes), "",
        "## Rows", "", *_rows(outcomes), "", "## Rows that did not run", "",
        *table(("Rows", "Fault", "Why"), [(" ".join(one.names), one.title, one.why) for one in ABSENT]),
    ]  # fmt: skip


def _bound(found: Mapping[str, int]) -> str:
    if found["lost"]:
        return ""
    return f"Rule of three: at most {_RULE_OF_THREE / max(1, found['requests']):.1e} of requests are lost (95%)."


def _bars(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    grouped: dict[tuple[str, str, str], list[Figure]] = {}
    for one in outcomes:
        for figure in one.figures:
            grouped.setdefault((figure.bar, figure.what, " ".join(one.row.names)), []).append(figure)
    return [
        (bar, what, names, _bounds(found[0]), _value(_median(found)), "reached" if _is_reached(found) else "missed",
         _plain(found[0]))
        for (bar, what, names), found in sorted(grouped.items(), key=lambda item: _order(item[0][0]))
    ]  # fmt: skip


def _order(bar: str) -> tuple[str, int]:
    digits = "".join(one for one in bar if one.isdecimal())
    return bar[:1], int(digits or 0)


def _median(found: Sequence[Figure]) -> Figure:
    return found[0]._replace(value=median([one.value for one in found]))


def _is_reached(found: Sequence[Figure]) -> bool:
    return _median(found).is_reached


def _value(figure: Figure) -> str:
    return _number(figure.value, figure.unit)


def _number(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "never"
    text = f"{value:,.0f}" if value == int(value) or abs(value) >= 1_000 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def _bounds(figure: Figure) -> str:
    parts = [f"at least {_number(figure.least, figure.unit)}"] if figure.least is not None else []
    return " and ".join(parts + ([f"at most {_number(figure.most, figure.unit)}"] if figure.most is not None else []))


def _plain(figure: Figure) -> str:
    if figure.plain is None:
        return ""
    return f"{_number(figure.plain, figure.unit)} ({'missed' if figure.is_plain_red else 'reached'})"


def _arms(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the shares of answers that are not full, by arm, over all runs, and the interval of their difference."""
    arms: dict[str, Counter[str]] = {}
    for one in outcomes:
        for arm, counts in one.by_arm.items():
            arms.setdefault(arm, Counter()).update(counts)
    rows = [
        (arm, f"{found['asked']:,}", f"{100 * found['not full'] / found['asked']:.2f}%") for arm, found in arms.items()
    ]
    lines = table(("Arm", "Requests", "Shed or degraded"), sorted(rows))
    if len(arms) == 2:
        low, high = difference(*[arms[arm] for arm in sorted(arms)])
        lines += ["", f"Difference: {low:+.2f} to {high:+.2f} points (95% interval)."]
    return lines


def difference(one: Mapping[str, int], two: Mapping[str, int]) -> tuple[float, float]:
    """Return the 95% interval of the difference of two shares, in points."""
    shares = [(found["not full"] / found["asked"], found["asked"]) for found in (one, two)]
    middle = shares[1][0] - shares[0][0]
    error = math.sqrt(sum(share * (1 - share) / count for share, count in shares))
    return 100 * (middle - _Z_95 * error), 100 * (middle + _Z_95 * error)


def _rows(outcomes: Sequence[Outcome]) -> list[str]:
    lines: list[str] = []
    for family in FAMILIES:
        mine = [one for one in outcomes if one.row.family == family]
        if mine:
            lines += [
                f"### {family.capitalize()}",
                "",
                *table(("Rows", "Fault", "Runs", "Requests", ""), _lines(mine)),
                "",
            ]
    return lines


def _lines(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    grouped: dict[tuple[str, ...], list[Outcome]] = {}
    for one in outcomes:
        grouped.setdefault((*one.row.names, one.row.title), []).append(one)
    return [
        (
            " ".join(found[0].row.names),
            found[0].row.title,
            _size(found),
            f"{totals(found)['requests']:,}",
            _verdict(found),
        )
        for found in grouped.values()
    ]


def _size(found: Sequence[Outcome]) -> str:
    tests = sum(one.tests_run for one in found)
    return f"{tests} tests" if tests else f"{len(found)}"


def _verdict(found: Sequence[Outcome]) -> str:
    problems = [text for one in found for text in one.problems]
    return "passed" if not problems else "; ".join(problems)[:300].replace("|", "/").replace("\n", " ")
