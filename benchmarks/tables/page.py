"""Updates the tables of a page from the results: this code writes our columns, people write the rest.

A table of the page under `<!-- ours: TABLE PROTOCOL METRIC ... -->` has a system's name in its first column
and our metrics in the next ones (`cpu_seconds` is the cost of one run); further columns (such as published figures) are
not changed. A system that the page lacks is added at the end, with a dash in the further columns.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.markdown import row
from benchmarks.tables.render import MISSING

_MARKED: Final = re.compile(r"<!-- ours: (\S+) (\S+) ([^>]+?) -->\n((?:\|[^\n]*\n)+)")


def refreshed(text: str, results: Path) -> str:
    """Return a page with our columns from `results/<table>/table.json`.

    Raises:
        KeyError: a table names a system that is not in the results.
    """
    return _MARKED.sub(lambda found: _table(found, results), text)


def _table(found: re.Match[str], results: Path) -> str:
    name, protocol, metrics = found[1], found[2], found[3].split()
    path = results / name / "table.json"
    rows: dict[str, Any] | None = None  # a table that was never written has no rows to check
    seeds = 0
    if path.exists():
        document = json.loads(path.read_text(encoding="utf-8"))
        seeds = len(document["seeds"])
        rows = {row["name"]: _cells_of(row, protocol) for row in document["rows"]}
    head, rule, *lines = found[4].splitlines()
    others = head.count("|") - 2 - len(metrics)
    there = {_cells(line)[0] for line in lines}
    lines += [f"| {name} |{' |' * len(metrics)}{' - |' * others}" for name in rows or () if name not in there]
    fresh = [_line(line, rows, metrics, seeds) for line in lines]
    return f"<!-- ours: {name} {protocol} {' '.join(metrics)} -->\n" + "\n".join([head, rule, *fresh]) + "\n"


def _cells_of(row: dict[str, Any], protocol: str) -> dict[str, Any]:
    """Return a row's cells by metric, with the CPU seconds of one run as one more."""
    seconds = {"cpu_seconds": row["seconds"][protocol]} if protocol in row["seconds"] else {}
    return {**row["cells"].get(protocol, {}), **seconds}


def _line(line: str, rows: dict[str, Any] | None, metrics: list[str], seeds: int) -> str:
    system, *cells = _cells(line)
    found = {} if rows is None else rows[system]
    ours = [
        f"{found[metric]:.0f}" if metric == "cpu_seconds" and metric in found else _shown(found.get(metric), seeds)
        for metric in metrics
    ]
    return row([system, *ours, *cells[len(metrics) :]])


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _shown(cell: dict[str, Any] | None, seeds: int) -> str:
    if cell is None:
        return MISSING
    values = cell["by_seed"]
    return f"{np.mean(values):.4f}".removeprefix("0") + (f" (n={len(values)})" if len(values) < seeds else "")
