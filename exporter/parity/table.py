"""The parity report as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from exporter.parity.verify import Parity

PARITY_COLUMNS: Final = ("case", "rows", "candidates", "state", "scores", "explanation")


def parity_rows(report: Sequence[Parity]) -> list[tuple[object, ...]]:
    """Return the parity report as cells, in the order of its columns."""
    return [
        (one.case, one.rows, one.candidates, *(f"{value:.1e}" for value in (one.state, one.scores, one.explanation)))
        for one in report
    ]


def parity_table(report: Sequence[Parity]) -> str:
    """Return the parity report for a terminal."""
    cells = [PARITY_COLUMNS, *(tuple(map(str, row)) for row in parity_rows(report))]
    widths = [max(len(row[place]) for row in cells) for place in range(len(PARITY_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)
