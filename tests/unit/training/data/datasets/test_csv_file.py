from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest

from contract.behaviours.actions import ACTION_CODES
from contract.behaviours.csv_rows import Problem
from training.data.datasets.csv_file import is_csv, load
from training.data.datasets.interactions import DataError
from training.data.prepare import Prepared

TS = 1_700_000_000_000


def _file(tmp_path: Path, text: str, name: str = "clicks.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_go_by_name_and_others_are_passed_over(tmp_path: Path) -> None:
    text = "item,colour,timestamp,user,action,play_ms,value\na,red,1700000000.5,u,play,900,4.5\n"
    loaded = load(_file(tmp_path, text))
    assert (loaded.name, loaded.users, loaded.items) == ("clicks", ["u"], ["a"])
    assert loaded.times_ms.tolist() == [TS + 500]
    assert loaded.actions.tolist() == [ACTION_CODES["play"]]
    assert (loaded.plays_ms.tolist(), loaded.values.tolist()) == ([900], [45])


def test_what_is_not_given_has_its_default(tmp_path: Path) -> None:
    loaded = load(_file(tmp_path, f"user,item,ts\nu,a,{TS}\n"))
    assert loaded.actions.tolist() == [ACTION_CODES["click"]]
    assert (loaded.plays_ms.tolist(), loaded.values.tolist()) == ([0], [0])


def test_item_facts_are_the_first_that_some_row_has(tmp_path: Path) -> None:
    rows = [f"u,a,{TS},,,", f"v,a,{TS},Rain,1999,Drama | War", f"w,a,{TS},Snow,2001,"]
    loaded = load(_file(tmp_path, "user,item,ts,title,year,genres\n" + "\n".join(rows)))
    facts = loaded.catalogue["a"]
    assert (facts.title, facts.year, facts.genres) == ("Rain", 1999, ("Drama", "War"))


@pytest.mark.parametrize("name", ["clicks.csv", "clicks.CSV", "clicks.csv.gz", "clicks.CSV.GZ"])
def test_a_name_may_end_in_any_case_and_a_packed_file_holds_the_same_data(tmp_path: Path, name: str) -> None:
    content = f"user,item,ts\nu,a,{TS}\n".encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
    loaded = load(path)
    assert is_csv(name)
    assert (loaded.name, loaded.users) == ("clicks", ["u"])
    assert loaded.digest == load(_file(tmp_path, content.decode(), "other.csv")).digest


def test_behaviours_of_prepared_data_are_such_a_file(prepared: Prepared) -> None:
    loaded = load(prepared.directory / "behaviours.csv")
    assert loaded.times_ms.tolist() == prepared.columns["times_ms"].tolist()
    assert prepared.items.indices(loaded.items).tolist() == prepared.columns["items"].tolist()
    assert loaded.plays_ms.tolist() == prepared.columns["plays"].tolist()


def test_the_first_bad_line_is_an_error_unless_bad_lines_are_to_be_skipped(tmp_path: Path) -> None:
    ahead = time.time_ns() // 1_000_000 + 3_600_000
    path = _file(tmp_path, f"user,item,ts\nu,a,{TS}\nu,b,7\nu,,{TS}\nu,c,{ahead}\nu,d,{TS}\n")
    with pytest.raises(DataError, match="line 3, column ts: '7' is before 1971"):
        load(path)
    skipped: list[Problem] = []
    loaded = load(path, skipped.append)
    assert loaded.items == ["a", "d"]
    assert [(problem.line, problem.column, problem.kind) for problem in skipped] == [
        (3, "ts", "before_1971"), (4, "item", "id"), (5, "ts", "future"),
    ]  # fmt: skip
    assert {name: loaded.read[f"skipped_{name}"] for name in ("before_1971", "id", "future")} == {
        "before_1971": 1, "id": 1, "future": 1,
    }  # fmt: skip
    assert (loaded.read["lines"], loaded.read["rows"]) == (6, 2)


def test_a_file_of_bad_lines_only_has_no_interactions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no interactions in it: all 2 were skipped"):
        load(_file(tmp_path, "user,item,ts\nu,a,1\nu,b,2\n"), lambda _: None)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "absent.csv")
