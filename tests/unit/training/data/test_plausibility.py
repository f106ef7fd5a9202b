"""The report of `prepare`: what was dropped and why, what looks wrong, and that every row is accounted for."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from training.__main__ import main
from training.data.plausibility import DROPPED

TS = 1_700_000_000_000
DAY = 86_400_000


def _prepare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[str], core: int = 1
) -> tuple[list[str], dict[str, int], int]:
    """Prepare a file of these rows; returns what was printed, the report, and how many interactions remain."""
    file = tmp_path / "clicks.csv"
    file.write_text("\n".join(["user,item,ts,action,value", *rows]) + "\n", encoding="utf-8")
    arguments = ["prepare", str(file), "--core", str(core), "--out", str(tmp_path / "data"), "--skip-bad-lines"]
    assert main(arguments) == 0
    provenance = json.loads((tmp_path / "data" / "clicks" / "provenance.json").read_text())
    return capsys.readouterr().out.splitlines(), provenance["plausibility"], provenance["counts"]["interactions"]


def _warnings(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("warning:")]


def _quiet() -> list[str]:
    """A log without anything odd: 5 users, 10 items, each item over three days."""
    return [f"u{user},i{(user + step) % 10},{TS + step * DAY + user},click," for user in range(5) for step in range(10)]


def test_an_orderly_log_is_reported_without_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, report, kept = _prepare(tmp_path, capsys, _quiet())
    assert _warnings(lines) == []
    assert (report["rows"], kept) == (50, 50)
    assert any(line.startswith("rows: 50 read; dropped: 0 bad lines, ") for line in lines)


def test_every_row_is_kept_or_dropped_for_one_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ahead = time.time_ns() // 1_000_000 + DAY
    odd = [
        "u0,,1700000000000,click,",  # bad
        'u0,"i0,1700000000000,click,',  # bad
        "u0,i0,1700000000,click,",  # before 1971
        f"u0,i0,{ahead},click,",  # future
        f"u0,i0,{TS},,",  # repeats the first row: an empty action is a click
        f"u0,i0,{TS},rate,4.5",
        f"u0,i0,{TS},rate,4.51",  # the same in tenths
        f"u1,i1,{TS + 9},impression,",
        f"u1,i1,{TS + 9},impression,",  # a repeat counts as a repeat, with any action
        f"u1,i1,{TS + 9},dislike,",
        f"lonely,rare,{TS},click,",  # below the core
    ]
    lines, report, kept = _prepare(tmp_path, capsys, [*_quiet(), *odd], core=2)
    dropped = {name: report[name] for name in DROPPED}
    assert list(dropped.values()) == [2, 2, 3, 1, 1, 1]
    assert (report["rows"], kept) == (61, 51)
    assert report["rows"] == kept + sum(dropped.values())
    assert (
        "rows: 61 read; dropped: 2 bad lines, 2 outside the time range, 3 exact repeats, 1 impressions, "
        "1 by their action, 1 by the core filter; 51 remain"
    ) in lines
    assert [line.split(":")[1].split("(")[0].strip() for line in _warnings(lines)] == ["2", "2", "3"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([f"u0,i0,{TS},click,"] * 2, "2 (3.8%) of all rows were dropped as exact repeats"),
        ([f"v,i0,{TS + step},click," for step in range(20)], "19 (27.1%) of the interactions repeat the item before"),
        ([f" v,i0 ,{TS},click,"], "1 (2.0%) of all rows have blanks around an id"),
        ([f"v,i{item},{TS},dislike," for item in range(60)], "60 (54.5%) of all rows were dropped by their action"),
        ([f"v,new{item},{TS},click," for item in range(11)], "11 (52.4%) of the items live less than a day"),
        (["v,i0,1700000000,click,"], "1 (2.0%) of all rows were dropped outside the time range"),
        (["v,i0,x,click,"], "1 (2.0%) of all rows were dropped as bad lines"),
    ],
)
def test_each_suspect_is_loud_above_its_threshold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[str], words: str
) -> None:
    lines, _, _ = _prepare(tmp_path, capsys, [*_quiet(), *rows])
    [warning] = _warnings(lines)
    assert warning.startswith(f"warning: {words}")


def test_a_core_that_drops_most_rows_is_loud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, _, _ = _prepare(tmp_path, capsys, [*_quiet(), *(f"v{n},i0,{TS},click," for n in range(60))], core=2)
    assert [line.split(":")[1] for line in _warnings(lines)] == [
        " 60 (54.5%) of all rows were dropped by the core filter"
    ]


def test_times_a_little_ahead_are_kept_and_loud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ahead = time.time_ns() // 1_000_000 + 240_000
    lines, report, kept = _prepare(tmp_path, capsys, [*_quiet(), f"u0,i0,{ahead},click,"])
    assert (report["times_ahead"], kept) == (1, 51)
    assert _warnings(lines)[0].startswith("warning: 1 (2.0%) of the interactions are ahead of the clock")


def test_a_report_is_told_again_if_the_data_are_unchanged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, _, _ = _prepare(tmp_path, capsys, [*_quiet(), f"u0,i0,{TS},click,"])
    again, _, _ = _prepare(tmp_path, capsys, [*_quiet(), f"u0,i0,{TS},click,"])
    assert again[-1].startswith("unchanged")
    assert _warnings(again) == _warnings(first) != []
