from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from contract.behaviours import file as behaviour_file
from contract.behaviours.actions import ACTION_CODES
from contract.behaviours.columns import Chunk
from contract.behaviours.csv_rows import FileError, Problem
from contract.behaviours.file import BadLineError, BehaviourFile

NOW_MS = 1_750_000_000_000
TS = 1_700_000_000_000
GOOD = f"u,a,{TS}\n"


def read(path: Path, *, skip: bool = False) -> tuple[list[tuple[str, str, int]], list[Problem], BehaviourFile]:
    problems: list[Problem] = []
    file = BehaviourFile(path, NOW_MS, problems.append if skip else None)
    rows = [
        row for chunk in file.chunks() for row in zip(chunk.users, chunk.items, chunk.times_ms.tolist(), strict=True)
    ]
    return rows, problems, file


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "clicks.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def one(tmp_path: Path, text: str) -> Chunk:
    [chunk] = BehaviourFile(write(tmp_path, text), NOW_MS).chunks()
    return chunk


@pytest.mark.parametrize(
    "text",
    [
        f"user,item,ts\nu,a,{TS}\n",
        f"user_id,item_id,ts\nu,a,{TS}",
        f"\ufeffuser,item,ts\nu,a,{TS}\n",
        f"user, item, ts\nu, a, {TS}\n",
        f" user ,\titem,ts \n u ,\ta, {TS}\t\n",
        f'"user", "item", "ts"\n"u", "a", "{TS}"\n',
        f'user,item,ts\n" u ","\ta"," {TS}"\n',
        f"ts,item,colour,user\r\n{TS},a,red,u\r\n",
        f"user,item,ts\n\nu,a,{TS}\n   \n\n",
        f"user,item,ts\nu,a,{TS}.0\n",
        "user,item,ts\nu,a,1.7e12\n",
        "user,item,timestamp\nu,a,1700000000\n",
        "user,item,timestamp\nu,a,1700000000.0\n",
        f"user,item,ts,action,play_ms,value,title,year,genres\nu,a,{TS},,,,,,\n",
        f'user,item,ts,review\nu,a,{TS},"several\nlines, and ""quotes"""\n',
    ],
)
def test_every_documented_spelling_is_the_same_behaviour(tmp_path: Path, text: str) -> None:
    rows, _, file = read(write(tmp_path, text))
    assert rows == [("u", "a", TS)]
    assert file.counts.rows == 1
    packed = tmp_path / "clicks.csv.GZ"
    packed.write_bytes(gzip.compress(text.encode()))
    assert read(packed)[0] == rows


def test_values_are_kept_in_tenths_and_plays_in_whole_milliseconds(tmp_path: Path) -> None:
    chunk = one(tmp_path, f"user,item,ts,rating,play_ms,action\nu,a,{TS},4.25,90.6,rate\nu,b,{TS},25.5,4294967295,\n")
    assert chunk.values.tolist() == [42, 255]
    assert chunk.plays_ms.tolist() == [91, 2**32 - 1]
    assert chunk.actions.tolist() == [ACTION_CODES["rate"], ACTION_CODES["click"]]


def test_what_is_known_of_items_comes_as_it_is_written(tmp_path: Path) -> None:
    chunk = one(tmp_path, f'user,item,ts,title,year,genres\nu,a,{TS},"Rain, the film",1999,Drama|War\nu,b,{TS},,,\n')
    assert (chunk.titles, chunk.genres) == (["Rain, the film", ""], ["Drama|War", ""])
    assert chunk.years is not None
    assert chunk.years.tolist() == [1999, 0]


HEADERS = {
    "": "line 1: column user .or user_id. is missing; the header has: nothing",
    "user,timestamp": "line 1: column item .or item_id. is missing; the header has: user, timestamp",
    "user,item": r"line 1: column timestamp \(seconds\) or ts \(milliseconds\) is missing",
    "user;item;ts": "columns are separated by commas",
    "user,user_id,item,ts": "line 1: columns user and user_id are the same one",
    "user,item,ts,value,rating": "line 1: columns value and rating are the same one",
    "user,item,ts,ts": "line 1: column ts is there twice",
    'user,item,"ts': "line 1: a quote opens here and is never closed",
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_cannot_be_used_is_an_error(tmp_path: Path, header: str) -> None:
    with pytest.raises(FileError, match=HEADERS[header]):
        read(write(tmp_path, f"{header}\n{GOOD}"))


# Each is the third line of a file; the lines around it are good.
BAD = {
    ",a,1700000000000": ("user", "id", "is empty"),
    "u,,1700000000000": ("item", "id", "is empty"),
    "u\tx,a,1700000000000": ("user", "id", r"'u\\tx' is not an id"),
    "u,a\x85,1700000000000": ("item", "id", r"'a\\x85' is not an id"),
    "u,\xa0a,1700000000000": ("item", "id", r"'\\xa0a' is not an id"),
    "u," + "é" * 65 + ",1700000000000": ("item", "id", "is not an id: 1 to 128 bytes"),
    "u,a,": ("ts", "number", "is empty"),
    "u,a,soon": ("ts", "number", "'soon' is not a number from 0 to 253402300799999"),
    "u,a,nan": ("ts", "number", "'nan' is not a number"),
    "u,a,1_700_000_000_000": ("ts", "number", "is not a number"),
    "u,a,-5": ("ts", "number", "'-5' is not a number from 0"),
    "u,a,1700000000000000": ("ts", "number", "not micro- or nanoseconds"),
    "u,a,1700000000": ("ts", "before_1971", "is before 1971 in milliseconds; if these are seconds, call the column"),
    "u,a,0": ("ts", "before_1971", "is before 1971"),
    "u,a,1750000000001": ("ts", "future", "is more than 5 minutes in the future"),
    "u,a": ("ts", "columns", "missing: the line has 2 of 3 columns"),
    "u,a,1700000000000,x": ("", "columns", "4 columns, expected 3"),
    'u,"a,1700000000000': ("", "quotes", "a quote opens here and is never closed"),
    'u,"a"b,1700000000000': ("", "quotes", "a quoted cell continues after its closing quote"),
    'u,\t"a",1700000000000': ("", "quotes", "a tab before a quote"),
    "u,a\rb,1700000000000": ("", "quotes", "bare carriage returns"),
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_named_and_hides_no_other_line(tmp_path: Path, line: str) -> None:
    column, kind, message = BAD[line]
    path = write(tmp_path, f"user,item,ts\nbefore,a,{TS}\n{line}\nafter,a,{TS}\nlast,b,{TS}\n")
    where = f"line 3, column {column}: " if column else "line 3: "
    with pytest.raises(BadLineError, match=f"{where}.*{message}"):
        read(path)
    rows, problems, file = read(path, skip=True)
    assert [row[0] for row in rows] == ["before", "after", "last"]
    assert [(problem.line, problem.column, problem.kind) for problem in problems] == [(3, column, kind)]
    assert file.counts.skipped == {kind: 1}
    assert file.counts.lines == 1 + file.counts.rows + file.counts.skipped.total()


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("rating", "26", "'26' is not a number from 0 to 25.5"),
        ("value", "inf", "'inf' is not a number from 0 to 25.5"),
        ("play_ms", "4294967296", "'4294967296' is not a number from 0 to 4294967295"),
        ("action", "stare", "'stare' is not one of impression, click"),
        ("year", "1999.5", "'1999.5' is not a whole number from 0 to 9999"),
        ("title", '"two\nlines"', "continues over several lines"),
    ],
)
def test_a_column_is_named_as_the_header_spells_it(tmp_path: Path, column: str, cell: str, message: str) -> None:
    path = write(tmp_path, f"user,item,ts,{column}\nu,a,{TS},\nu,a,{TS},{cell}\n")
    with pytest.raises(BadLineError, match=f"line 3, column {column}: {message}"):
        read(path)


@pytest.mark.parametrize("cell", ["1", "0", "31535999", "31535999.9"])
def test_a_column_of_seconds_before_1971_gets_another_hint(tmp_path: Path, cell: str) -> None:
    with pytest.raises(
        BadLineError, match=r"column timestamp: .* is before 1971 in seconds; if it only tells the order"
    ):
        read(write(tmp_path, f"user,item,timestamp\nu,a,{cell}\n"))


def test_milliseconds_in_a_column_of_seconds_get_the_hint(tmp_path: Path) -> None:
    with pytest.raises(BadLineError, match=r"column timestamp: .*; milliseconds belong in a column ts"):
        read(write(tmp_path, f"user,item,timestamp\nu,a,{TS}\n"))


def test_the_first_bad_line_of_the_file_is_the_one_reported(tmp_path: Path) -> None:
    with pytest.raises(BadLineError, match="line 3, column item"):
        read(write(tmp_path, f"user,item,ts\n{GOOD}u,,{TS}\nu,a\nu,a,x\n"))


def test_an_unclosed_quote_is_reported_where_it_opens_and_no_later_row_is_lost(tmp_path: Path) -> None:
    later = "".join(f"user{number},a,{TS}\n" for number in range(9_000))  # longer than the longest cell
    rows, problems, _ = read(write(tmp_path, f'user,item,ts\nu,"a,{TS}\n{later}'), skip=True)
    assert len(rows) == 9_000
    assert [(problem.line, problem.kind) for problem in problems] == [(2, "quotes")]


def test_rows_swallowed_by_a_cell_that_closes_later_are_read_again(tmp_path: Path) -> None:
    text = f'user,item,ts,title\nu,a,{TS},"Rain\nv,b,{TS},Snow\nw,c,{TS},"Hail"\nx,d,{TS},Fog\n'
    rows, problems, _ = read(write(tmp_path, text), skip=True)
    assert [row[0] for row in rows] == ["v", "w", "x"]
    assert [problem.line for problem in problems] == [2]


def test_lines_inside_a_quoted_cell_are_counted_so_that_the_counts_add_up(tmp_path: Path) -> None:
    rows, _, file = read(write(tmp_path, f'user,item,ts,review\nu,a,{TS},"1\n2\n3"\n\nu,b,{TS},\n'))
    counts = file.counts
    assert (len(rows), counts.lines, counts.blank, counts.spanned) == (2, 6, 1, 2)
    assert counts.lines == 1 + counts.rows + counts.blank + counts.spanned


def test_bytes_that_are_not_text_are_named_by_line(tmp_path: Path) -> None:
    content = f"user,item,ts\nu,a,{TS}\nu,".encode() + b"\xff" + f",{TS}\nv,a,{TS}\n".encode()
    with pytest.raises(BadLineError, match="line 3: not UTF-8 text"):
        read(write(tmp_path, content))
    rows, problems, _ = read(write(tmp_path, content), skip=True)
    assert ([row[0] for row in rows], [problem.line for problem in problems]) == (["u", "v"], [3])
    quoted = f'user,item,ts\nu,"a,{TS}\nu,'.encode() + b"\xff" + f",{TS}\nv,a,{TS}\n".encode()
    rows, problems, _ = read(write(tmp_path, quoted), skip=True)
    assert ([row[0] for row in rows], [problem.line for problem in problems]) == (["v"], [2, 3])


def test_ids_with_blanks_around_them_are_read_without_and_counted(tmp_path: Path) -> None:
    text = f'user,item,ts,title\nu, a,{TS},x\nu,a ,{TS},x\nu,a,{TS}, x\nu,a,{TS},"Lock, Stock"\nu, "a",{TS},x\n'
    rows, _, file = read(write(tmp_path, text))
    assert {row[1] for row in rows} == {"a"}
    assert file.counts.padded == 3


def test_a_file_longer_than_a_chunk_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behaviour_file, "CHUNK", 3)
    text = "user,item,ts\n" + "".join(f"u{number},a,{'x' if number == 5 else TS}\n" for number in range(10))
    rows, problems, _ = read(write(tmp_path, text), skip=True)
    assert [row[0] for row in rows] == [f"u{number}" for number in range(10) if number != 5]
    assert [problem.line for problem in problems] == [7]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("plain.csv.gz", b"user,item,ts\n", "cannot be read"),
        ("cut.csv.gz", gzip.compress(b"user,item,ts\n" * 99, mtime=0)[:-9], "is cut off: it ends"),
        ("bent.csv.gz", gzip.compress(b"user,item,ts\n", mtime=0)[:-8] + b"\xff" * 8, "cannot be read"),
    ],
    ids=["not packed", "cut", "bent"],
)
def test_a_packed_file_that_is_damaged_is_one_line(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FileError, match=words):
        read(path)


def test_a_missing_file_and_a_folder_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        read(tmp_path / "absent.csv")
    with pytest.raises(FileError, match="is a folder"):
        read(tmp_path)
