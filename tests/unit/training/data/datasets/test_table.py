from __future__ import annotations

from pathlib import Path

import pytest

from training.data.datasets.interactions import DataError
from training.data.datasets.table import Table, read_table


def _table(tmp_path: Path, text: str, *columns: str) -> Table:
    return read_table(tmp_path / "clips.csv", text.encode(), columns or ("user", "time"))


def test_columns_go_by_name_and_others_are_passed_over(tmp_path: Path) -> None:
    table = _table(tmp_path, 'time,colour,user\n3,"red, blue",u\n\n4,,v\n')
    assert table.ids("user") == ["u", "v"]
    assert table.whole("time", 0, 9).tolist() == [3, 4]
    assert len(table) == 2


def test_a_blank_cell_is_what_the_reader_says(tmp_path: Path) -> None:
    table = _table(tmp_path, "user,time\nu,\nv,7\n")
    assert table.whole("time", 0, 9, blank=-1).tolist() == [-1, 7]


def test_more_rows_than_a_chunk_are_all_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.data.datasets.table._CHUNK", 2)
    table = _table(tmp_path, "user,time\n" + "".join(f"u{row},{row}\n" for row in range(5)))
    assert table.whole("time", 0, 9).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: column user is missing"),
        ("user\nu\n", "line 1: column time is missing; the header has: user"),
        ("user,time\n", "no rows"),
        ("user,time\nu,1\nu\n", "line 3, column time: missing: the line has 1 of 2 columns"),
        ("user,time\nu,1,2\n", "line 2: 3 columns, expected 2"),
        ("user,time\nu,1\n\nu,soon\n", "line 4, column time: 'soon' is not a whole number from 0 to 9"),
        ("user,time\nu,\n", "line 2, column time: '' is not a whole number"),
        ("user,time\nu,1\nu,10\n", "line 3, column time: '10' is not a whole number"),
        (f"user,time\nu,1\nu,{'9' * 30}\n", "line 3, column time: '9+' is not a whole number"),
        ("user,time\nu,1\n,2\n", "line 3, column user: is empty"),
        (f"user,time\nu,1\n{'x' * 129},2\n", "line 3, column user: 'x+...' is not an id"),
        ('user,time\n"u\nx",1\nu,2\n', r"line 2, column user: 'u\\nx' is not an id"),
        ('user,time\nu,1\nu,"2\n', "line 3"),
    ],
)
def test_what_is_wrong_is_named_by_line_and_column(tmp_path: Path, text: str, words: str) -> None:
    def read() -> None:
        table = _table(tmp_path, text)
        table.ids("user")
        table.whole("time", 0, 9)

    with pytest.raises(DataError, match=words) as caught:
        read()
    assert "clips.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_id_of_no_other_file_is_named_where_it_first_stands(tmp_path: Path) -> None:
    table = _table(tmp_path, "user,time\nu,1\nv,2\nv,3\n")
    with pytest.raises(DataError, match=r"line 3, column user: 'v' is not in people\.csv"):
        table.known("user", {"u"}, "people.csv")
