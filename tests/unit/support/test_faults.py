"""The results of fault rows: a part of the rows is put into those that are there."""

from __future__ import annotations

import math
from pathlib import Path

from tests.faults.report import lengths, read, write
from tests.faults.row import ROWS, Figure, Outcome
from tests.faults.rows import load_all


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    if not ROWS:
        load_all()
    one, other, *_ = ROWS
    figures = [
        Figure("B1", "a share", 99.5, "%", least=99.0, plain=math.inf),
        Figure("B2", "a time", 1.0, "s", most=2.0),
    ]
    outcomes = [
        Outcome(one, 1, [], figures, {"full": 3, "late": 1}, {"arm": {"asked": 3, "not full": 0}}, ["a note"], 1.5),
        Outcome(other, 2, ["V1: 1 of 3 requests lost"], counts={"closed": 1}, seconds=2.0),
    ]
    write(tmp_path, outcomes, size="short", seconds=3.5)
    assert read(tmp_path, "short") == outcomes
    assert read(tmp_path, "full") == []
    assert lengths(tmp_path, "short", [one])[-1] == "0 minutes; 0 of 1 rows not measured"
    assert "1 of 1 rows not measured" in lengths(tmp_path, "full", [one])[-1]
