"""The results of fault rows: a part of the rows is put into those that are there."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from tests.faults.report import lengths, read, write
from tests.faults.row import ABSENT, ROWS, Figure, Outcome
from tests.faults.rows import load_all


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
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
    found = read(tmp_path, "short")
    assert [replace(one, commit="") for one in found] == outcomes
    write(tmp_path, [replace(found[0], commit="abc"), outcomes[1]], size="short", seconds=3.5)
    assert [one.commit for one in read(tmp_path, "short")] == ["abc", found[1].commit]
    assert f"commit {' and '.join(sorted(['abc', found[1].commit]))}," in (tmp_path / "short.md").read_text()
    assert read(tmp_path, "full") == []
    assert lengths(tmp_path, "short", [one])[-1] == "0 minutes; 0 of 1 rows not measured"
    assert "1 of 1 rows not measured" in lengths(tmp_path, "full", [one])[-1]


COUNTS = {"R": 26, "M": 22, "L": 10, "P": 8, "H": 15, "J": 17, "O": 12}  # of the rows of each family
ROOT = Path(__file__).resolve().parents[3]


def test_every_row_of_the_fault_table_runs_or_has_a_reason_in_the_docs() -> None:
    load_all()
    all_names = {f"{family}{number}" for family, count in COUNTS.items() for number in range(1, count + 1)}
    run = {name for row in ROWS for name in row.names}
    absent = {name for one in ABSENT for name in one.names} & all_names
    assert run & all_names == all_names - absent
    lines = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    section = lines[
        lines.index("## Rows that cannot run here") : lines.index("## A request that meets the end of a wait")
    ]
    named = {name for line in section if line.startswith("| ") for name in line.split("|")[1].replace(",", " ").split()}
    assert named - {"Rows", "---"} == absent
