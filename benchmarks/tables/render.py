"""A table as JSON, CSV, Markdown and pictures. A missing cell is shown as missing, never left out.

Each protocol has the mean over seeds and their standard deviation. It also has the difference to the reference system,
or to the row that the plan names instead, paired by user, with two 95% percentile bootstrap intervals: over users, and
over seeds and users. If the second one contains zero, it is a tie. Neither covers tuning.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.markdown import table as markdown_table
from benchmarks.tables.picture import draw, draw_cost, draw_learning, heading
from benchmarks.tables.plan import Plan, Section
from benchmarks.tables.records import Records
from benchmarks.tables.rows import Cell, Row, read_rows
from benchmarks.tables.searched import Searched

MISSING: Final = "missing"


def write_table(plan: Plan, records: Records, folder: Path, console: Console) -> Path:
    """Write table.json, table.csv, table.md, <protocol>.png and learning.png; returns the folder.

    A plan with `search_seconds` takes the best recipe of each search from searches.jsonl beside the records.
    """
    searches = Searched(records.folder).by_system(plan)
    plan = Searched(records.folder).applied(plan)
    rows = read_rows(plan, records)
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "title": plan.title,
        "dataset": plan.dataset,
        "seeds": plan.seeds,
        "reference": plan.reference,
        "complete": all(_complete(plan, row) for row in rows),
        "rows": [asdict(row) for row in rows],
    }
    if searches:
        document["searches"] = {"cpu_seconds": plan.search_seconds, "systems": searches}
    (folder / "table.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    _write_csv(folder / "table.csv", plan, rows)
    (folder / "table.md").write_text(markdown(plan, rows, searches), encoding="utf-8")
    for protocol in plan.protocols:
        metrics = _metrics(plan, rows, protocol)
        if metrics:
            means = {row.name: (_main(row, protocol, metrics[0])) for row in rows}
            named = heading(plan.title, protocol)
            against = {row.name: row.against for row in rows}
            draw(folder / f"{protocol}.png", named, metrics[0], means, plan.reference, against)
            costs = {
                row.name: (row.seconds[protocol], cell)
                for row in rows
                if protocol in row.seconds and (cell := means[row.name])
            }
            draw_cost(folder / f"{protocol}-cost.png", named, metrics[0], costs)
        console.print(_shown(plan, rows, protocol))
    learning = {row.name: row.learning for row in rows}
    title = f"{heading(plan.title, plan.tune)}: validation by epoch"
    draw_learning(folder / "learning.png", title, learning, plan.reference)
    return folder


def _complete(plan: Plan, row: Row) -> bool:
    return all(
        cells and all(len(cell.by_seed) == len(plan.seeds) for cell in cells.values()) for cells in row.cells.values()
    )


def _metrics(plan: Plan, rows: list[Row], protocol: str) -> list[str]:
    """Return the metrics of a protocol, those of the plan's ranking first."""
    found = list(dict.fromkeys(metric for row in rows for metric in row.cells[protocol]))
    return found if plan.ranking == "all" else sorted(found, key=lambda one: one.rpartition(".")[0] != plan.ranking)


def _main(row: Row, protocol: str, metric: str) -> Cell | None:
    return row.cells[protocol].get(metric)


def _write_csv(path: Path, plan: Plan, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = ("system", "protocol", "metric", "mean", "sd", "seeds", "against", "difference", "low", "high")
        writer.writerow((*head, "low_with_seeds", "high_with_seeds"))
        for row in rows:
            for protocol in plan.protocols:
                for metric in _metrics(plan, rows, protocol):
                    cell = row.cells[protocol].get(metric)
                    if cell is None:
                        writer.writerow((row.name, protocol, metric, MISSING, "", 0, row.against, *[""] * 5))
                        continue
                    spread = f"{np.std(cell.by_seed, ddof=1):.6f}" if len(cell.by_seed) > 1 else ""
                    intervals = (*(cell.difference or ()), *(cell.with_seeds or ())[1:])
                    paired = [f"{value:.6f}" for value in intervals] or [""] * 5
                    seeds = len(cell.by_seed)
                    writer.writerow(
                        (row.name, protocol, metric, f"{cell.mean:.6f}", spread, seeds, row.against, *paired)
                    )


def markdown(plan: Plan, rows: list[Row], searches: Mapping[str, Section | None] | None = None) -> str:
    """Return the tables of all protocols, the trials or the searches, and the notes.

    Args:
        plan: of the table.
        rows: of its systems.
        searches: by system, the record of its search; None if it is missing. No searches: the trials were compared.
    """
    lines = [f"# {plan.title}", "", f"Data set `{plan.dataset}`, seeds {', '.join(map(str, plan.seeds))}.", ""]
    for protocol in plan.protocols:
        metrics = _metrics(plan, rows, protocol)
        best = {metric: _best(rows, protocol, metric) for metric in metrics}
        head = ["System", *(metric.upper() for metric in metrics), "CPU s"]
        shown = []
        for row in rows:
            cells = [_marked(row.cells[protocol].get(metric), best[metric], len(plan.seeds)) for metric in metrics]
            seconds = f"{row.seconds[protocol]:.0f}" if protocol in row.seconds else MISSING
            shown.append((row.name, *cells, seconds))
        lines += [f"## {protocol}", "", *markdown_table(head, shown), "", *_differences(plan, rows, protocol, metrics)]
    lines += _searches(plan, searches) if searches else _trials(rows)
    notes = [f"- {row.name}: {row.note}." for row in rows if row.note]
    return "\n".join([*lines, "", *(["## Notes", "", *notes, ""] if notes else [])])


def _trials(rows: list[Row]) -> list[str]:
    tried = []
    for row in rows:
        trials = ", ".join(f"{value:.4f}" for value in row.trials) or ("none to make" if row.chosen == 0 else MISSING)
        tried.append((row.name, trials, MISSING if row.chosen is None else str(row.chosen + 1)))
    return ["## Trials", "", *markdown_table(("System", "Validation, by trial", "Chosen"), tried)]


def _searches(plan: Plan, searches: Mapping[str, Section | None]) -> list[str]:
    """Return the budget of the searches, and what each system did with it."""
    head = ("System", "Trials", "of them pruned", "failed", "CPU s spent", "Best on validation", "Its values")
    lines = [
        f"Every system was searched with {plan.search_seconds:,g} CPU seconds, by {plan.tune} on validation with "
        f"seed {plan.seeds[0]}; its best recipe is in the tables above. A trial that reaches the budget ends with its "
        "epoch.",
        "",
    ]
    rows = [
        (name, *([MISSING] * (len(head) - 1) if record is None else _search(record)))
        for name, record in searches.items()
    ]
    return ["## Searches", "", *lines, *markdown_table(head, rows)]


def _search(record: Section) -> list[str]:
    states = [trial["state"] for trial in record["trials"]]
    values = ", ".join(f"{key.partition('.')[2]} {value}" for key, value in record["values"].items())
    return [
        *(str(count) for count in (len(states), states.count("pruned"), states.count("fail"))),
        f"{record['spent']['cpu_seconds']:,.0f}",
        f"{record['metric'].upper()} {record['value']:.4f} (trial {record['best'] + 1})",
        values,
    ]


def _differences(plan: Plan, rows: list[Row], protocol: str, metrics: list[str]) -> list[str]:
    """Return a table of paired differences; a tie is a difference whose interval contains zero."""
    paired = [
        metric
        for metric in metrics
        if any((cell := row.cells[protocol].get(metric)) and cell.difference for row in rows)
    ]
    if not paired:
        return []
    head = ["System", *(metric.upper() for metric in paired)]
    lines = [
        f"Minus {plan.reference}, paired by user: 95% interval over users; over seeds and users (tie if it has zero).",
        "",
    ]
    shown = []
    for row in rows:
        if row.name != plan.reference:
            cells = [_difference(row.cells[protocol].get(metric)) for metric in paired]
            name = row.name if row.against == plan.reference else f"{row.name} minus {row.against}"
            shown.append((name, *cells))
    return [*lines, *markdown_table(head, shown), ""]


def _difference(cell: Cell | None) -> str:
    if cell is None or cell.difference is None or cell.with_seeds is None:
        return MISSING
    mean, low, high = cell.difference
    _, lowest, highest = cell.with_seeds
    over_users, over_both = f"[{low:+.4f}, {high:+.4f}]", f"[{lowest:+.4f}, {highest:+.4f}]"
    return f"{mean:+.4f} {over_users}; {over_both}" + (" tie" if lowest <= 0 <= highest else "")


def _best(rows: list[Row], protocol: str, metric: str) -> float:
    return max((cell.mean for row in rows if (cell := row.cells[protocol].get(metric))), default=0.0)


def _marked(cell: Cell | None, best: float, asked: int) -> str:
    if cell is None:
        return MISSING
    return f"**{cell.shown(asked)}**" if cell.mean == best else cell.shown(asked)


def _shown(plan: Plan, rows: list[Row], protocol: str) -> Table:
    metrics = [metric for metric in _metrics(plan, rows, protocol) if metric.rpartition(".")[0] in ("", plan.ranking)]
    table = Table(title=f"{plan.title}: {protocol}", title_justify="left")
    for name in ("system", *(metric.upper() for metric in metrics)):
        table.add_column(name)
    for row in rows:
        cells = (row.cells[protocol].get(metric) for metric in metrics)
        table.add_row(row.name, *(MISSING if cell is None else cell.shown(len(plan.seeds)) for cell in cells))
    return table
