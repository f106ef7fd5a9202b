"""A table as JSON, CSV, Markdown and pictures. A missing cell is shown as missing, never left out.

Each protocol has the mean over seeds and their standard deviation. It also has the difference to the reference system,
or to the row that the plan names instead, paired by user, with two 95% percentile bootstrap intervals: over users, and
over seeds and users. If the second one contains zero, it is a tie. Neither covers tuning.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.markdown import table as markdown_table
from benchmarks.tables.picture import draw, draw_cost, draw_learning, heading
from benchmarks.tables.plan import Plan, SystemPlan, final_jobs, trial_jobs
from benchmarks.tables.records import Record, Records
from benchmarks.tables.runner import chosen_trial
from training.judging.intervals import Interval, interval, interval_with_seeds

MISSING: Final = "missing"


@dataclass(frozen=True)
class Cell:
    """One metric of one system by one protocol.

    Attributes:
        by_seed: mean over queries, one per finished seed.
        difference: to the row it is compared with, with its interval over users: mean, low, high; None if it cannot be
            paired.
        with_seeds: the same with its interval over seeds and users.
    """

    by_seed: tuple[float, ...]
    difference: Interval | None = None
    with_seeds: Interval | None = None

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.by_seed))

    def shown(self, asked: int) -> str:
        """Return mean and spread, and the number of seeds if there are fewer than `asked`."""
        spread = f" ± {np.std(self.by_seed, ddof=1):.4f}" if len(self.by_seed) > 1 else ""
        return f"{self.mean:.4f}{spread}" + (f" (n={len(self.by_seed)})" if len(self.by_seed) < asked else "")


Cells = dict[str, Cell]
"""By metric."""


@dataclass(frozen=True)
class Row:
    """One system.

    Attributes:
        against: the row that it is compared with; itself for the reference.
        trials: the metric of each on validation, in the order of the plan; empty while one is missing.
        chosen: the selected trial, which is trained by every protocol.
        learning: one tuple per seed, validation by epoch, by the protocol that compared the trials.
        seconds: by protocol, processor time of one run, a mean over seeds; none if there is no run.
        cells: by protocol, then metric; a protocol without runs has none.
    """

    name: str
    model: str
    note: str
    against: str
    trials: tuple[float, ...]
    chosen: int | None
    learning: tuple[tuple[float, ...], ...]
    seconds: dict[str, float]
    cells: dict[str, Cells]


def write_table(plan: Plan, records: Records, folder: Path, console: Console) -> Path:
    """Write table.json, table.csv, table.md, <protocol>.png and learning.png; returns the folder."""
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
    (folder / "table.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    _write_csv(folder / "table.csv", plan, rows)
    (folder / "table.md").write_text(markdown(plan, rows), encoding="utf-8")
    for protocol in plan.protocols:
        metrics = _metrics(rows, protocol)
        if metrics:
            means = {row.name: (_main(row, protocol, metrics[0])) for row in rows}
            named = heading(plan.title, protocol)
            draw(folder / f"{protocol}.png", named, metrics[0], means, plan.reference)
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


def read_rows(plan: Plan, records: Records) -> list[Row]:
    """Return every system's row from the existing runs."""
    found = {system.name: _found(plan, system, records) for system in plan.systems}
    return [
        _row(plan, system, records, found[system.name], found[system.against or plan.reference])
        for system in plan.systems
    ]


Found = dict[str, list[Record]]  # by protocol


def _found(plan: Plan, system: SystemPlan, records: Records) -> Found:
    trial = chosen_trial(plan, system, records)
    found: Found = {protocol: [] for protocol in plan.protocols}
    for job in [] if trial is None else final_jobs(plan, system, trial):
        if records.judged(job):
            found[job.protocol].append(records.read(job))
    return found


def _row(plan: Plan, system: SystemPlan, records: Records, found: Found, reference: Found) -> Row:
    seconds = {
        protocol: float(np.mean([record.document["run"]["cpu_seconds"] for record in members]))
        for protocol, members in found.items()
        if members
    }
    return Row(
        system.name,
        system.model,
        system.note,
        system.against or plan.reference,
        _judged(plan, system, records),
        chosen_trial(plan, system, records),
        tuple(_learnt(record) for record in found[plan.tune]),
        seconds,
        {
            protocol: _cells(members, [] if system.name == plan.reference else reference[protocol])
            for protocol, members in found.items()
        },
    )


def _learnt(record: Record) -> tuple[float, ...]:
    return tuple(epoch["valid_score"] for epoch in record.document["epochs"])


def _judged(plan: Plan, system: SystemPlan, records: Records) -> tuple[float, ...]:
    jobs = trial_jobs(plan, system)
    if not all(records.has(job) for job in jobs):
        return ()
    return tuple(records.read(job).selected() for job in jobs)


def _cells(members: list[Record], reference: list[Record]) -> Cells:
    if not members:
        return {}
    paired = set(members[0].by_user) & set(reference[0].by_user) if reference else set()
    return {
        metric: _cell(members, reference if metric in paired else [], metric) for metric in members[0].means("test")
    }


def _cell(members: list[Record], reference: list[Record], metric: str) -> Cell:
    by_seed = tuple(record.means("test")[metric] for record in members)
    if not reference:
        return Cell(by_seed)
    ours, theirs = (np.array([record.by_user[metric] for record in some]) for some in (members, reference))
    over_users = interval(ours.mean(axis=0), theirs.mean(axis=0))
    return Cell(by_seed, over_users, interval_with_seeds(ours, theirs))


def _complete(plan: Plan, row: Row) -> bool:
    return all(
        cells and all(len(cell.by_seed) == len(plan.seeds) for cell in cells.values()) for cells in row.cells.values()
    )


def _metrics(rows: list[Row], protocol: str) -> list[str]:
    return list(dict.fromkeys(metric for row in rows for metric in row.cells[protocol]))


def _main(row: Row, protocol: str, metric: str) -> Cell | None:
    return row.cells[protocol].get(metric)


def _write_csv(path: Path, plan: Plan, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = ("system", "protocol", "metric", "mean", "sd", "seeds", "against", "difference", "low", "high")
        writer.writerow((*head, "low_with_seeds", "high_with_seeds"))
        for row in rows:
            for protocol in plan.protocols:
                for metric in _metrics(rows, protocol):
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


def markdown(plan: Plan, rows: list[Row]) -> str:
    """Return the tables of all protocols, the trials and the notes."""
    lines = [f"# {plan.title}", "", f"Data set `{plan.dataset}`, seeds {', '.join(map(str, plan.seeds))}.", ""]
    for protocol in plan.protocols:
        metrics = _metrics(rows, protocol)
        best = {metric: _best(rows, protocol, metric) for metric in metrics}
        head = ["System", *(metric.upper() for metric in metrics), "CPU s"]
        shown = []
        for row in rows:
            cells = [_marked(row.cells[protocol].get(metric), best[metric], len(plan.seeds)) for metric in metrics]
            seconds = f"{row.seconds[protocol]:.0f}" if protocol in row.seconds else MISSING
            shown.append((row.name, *cells, seconds))
        lines += [f"## {protocol}", "", *markdown_table(head, shown), "", *_differences(plan, rows, protocol, metrics)]
    tried = []
    for row in rows:
        trials = ", ".join(f"{value:.4f}" for value in row.trials) or ("none to make" if row.chosen == 0 else MISSING)
        tried.append((row.name, trials, MISSING if row.chosen is None else str(row.chosen + 1)))
    lines += ["## Trials", "", *markdown_table(("System", "Validation, by trial", "Chosen"), tried)]
    notes = [f"- {row.name}: {row.note}." for row in rows if row.note]
    return "\n".join([*lines, "", *(["## Notes", "", *notes, ""] if notes else [])])


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
    metrics = [metric for metric in _metrics(rows, protocol) if "." not in metric]
    table = Table(title=f"{plan.title}: {protocol}", title_justify="left")
    for name in ("system", *(metric.upper() for metric in metrics)):
        table.add_column(name)
    for row in rows:
        cells = (row.cells[protocol].get(metric) for metric in metrics)
        table.add_row(row.name, *(MISSING if cell is None else cell.shown(len(plan.seeds)) for cell in cells))
    return table
