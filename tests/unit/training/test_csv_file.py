from __future__ import annotations

from pathlib import Path

import pytest

from contract.behaviours import ACTION_CODES
from training.datasets.csv_file import load
from training.datasets.interactions import DataError
from training.prepare import Prepared


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "clicks.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_go_by_name_and_others_are_passed_over(tmp_path: Path) -> None:
    loaded = load(_file(tmp_path, "item,colour,timestamp,user,action,play_ms,value\na,red,1.5,u,play,900,4.5\n"))
    assert (loaded.name, loaded.users, loaded.items) == ("clicks", ["u"], ["a"])
    assert loaded.times_ms.tolist() == [1500]
    assert loaded.actions.tolist() == [ACTION_CODES["play"]]
    assert (loaded.plays_ms.tolist(), loaded.values.tolist()) == ([900], [45])


def test_what_is_not_given_has_its_default(tmp_path: Path) -> None:
    loaded = load(_file(tmp_path, "user,item,timestamp\nu,a,1\n"))
    assert loaded.actions.tolist() == [ACTION_CODES["click"]]
    assert (loaded.plays_ms.tolist(), loaded.values.tolist()) == ([0], [0])


def test_item_facts_are_the_first_that_some_row_has(tmp_path: Path) -> None:
    text = "user,item,timestamp,title,year,genres\nu,a,1,,,\nv,a,2,Rain,1999,Drama|War\nw,a,3,Snow,2001,\n"
    facts = load(_file(tmp_path, text)).catalogue["a"]
    assert (facts.title, facts.year, facts.genres) == ("Rain", 1999, ("Drama", "War"))


def test_behaviours_of_prepared_data_are_such_a_file(prepared: Prepared) -> None:
    loaded = load(prepared.directory / "behaviours.csv")
    assert loaded.times_ms.tolist() == prepared.columns["times_ms"].tolist()
    assert prepared.items.indices(loaded.items).tolist() == prepared.columns["items"].tolist()
    assert loaded.plays_ms.tolist() == prepared.columns["plays"].tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: column user is missing"),
        ("user,timestamp\n", "line 1: column item is missing; the header has: user, timestamp"),
        ("user,item\n", r"line 1: column timestamp \(seconds\) or ts \(milliseconds\) is missing"),
        ("user,user_id,item,ts\n", "line 1: column user stands there twice"),
        ("user,item,ts\n", "no interactions"),
        ("user,item,ts\nu,a\n", "line 2, column ts: missing: the line has 2 of 3 columns"),
        ("user,item,ts\nu,a,1\nu,a,1,2\n", "line 3: 4 columns, expected 3"),
        ("user,item,ts\nu,a,soon\n", "line 2, column ts: 'soon' is not a number"),
        ("user,item,timestamp\nu,a,nan\n", "line 2, column timestamp: 'nan' is not a number"),
        ("user,item,ts\nu,a,-5\n", "line 2, column ts: '-5' is not a number from 0"),
        ("user,item,ts\nu,,5\n", "line 2, column item: '' is not an id"),
        ("user,item,ts,action\nu,a,5,stare\n", "line 2, column action: 'stare' is not one of impression, click"),
        ("user,item,ts,value\nu,a,5,26\n", "line 2, column value: '26' is not a number from 0 to 25.5"),
        ("user,item,ts,year\nu,a,5,MM\n", "line 2, column year: 'MM' is not a whole number"),
        ('user,item,ts\n"u\nx",a,5\nu,a,bad\n', "line 4, column ts"),
        ('user,item,ts\nu,a,5\nu,"a,5\n', "line 3"),
    ],
)
def test_what_is_wrong_is_named_by_line_and_column(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(_file(tmp_path, text))


def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_bytes(b"user,item,ts\nu,a,1\nu,\xff,2\n")
    with pytest.raises(DataError, match="line 3: not utf-8"):
        load(path)
