from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from training.data.datasets.interactions import DataError
from training.data.datasets.ml100k import load

Replace = Callable[[str, int, str], Path]


def test_every_rating_is_an_interaction_with_its_time_and_value(ml100k_folder: Path) -> None:
    lines = (ml100k_folder / "u.data").read_text().splitlines()
    loaded = load(ml100k_folder)
    user, item, rating, seconds = lines[7].split("\t")
    assert len(loaded.users) == len(lines)
    assert (loaded.users[7], loaded.items[7]) == (user, item)
    assert (loaded.values[7], loaded.times_ms[7]) == (int(rating) * 10, int(seconds) * 1000)


def test_titles_years_and_genres_are_read(ml100k_folder: Path) -> None:
    facts = load(ml100k_folder).catalogue["1"]
    assert (facts.title, facts.year, facts.genres) == ("Film é (1981)", 1981, ("Action",))


def test_the_year_comes_from_the_release_date_where_the_title_has_none(replace_line: Replace) -> None:
    folder = replace_line("u.item", 2, "2|Untitled|04-Feb-1971||url|1|0|0|0")
    facts = load(folder).catalogue["2"]
    assert (facts.year, facts.genres) == (1971, ())


def test_packed_ratings_are_read_as_plain_ones_are(ml100k_folder: Path) -> None:
    plain = load(ml100k_folder)
    path = ml100k_folder / "u.data"
    (ml100k_folder / "u.data.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    packed = load(ml100k_folder)
    assert packed.digest == plain.digest
    assert packed.items == plain.items


@pytest.mark.parametrize(
    ("name", "number", "line", "words"),
    [
        ("u.data", 3, "1\t2\t3", ("u.data, line 3, column timestamp", "missing", "3 of 4 columns")),
        ("u.data", 4, "1\t2\t3\t880000000\t9", ("u.data, line 4", "5 columns, expected 4")),
        ("u.data", 5, "1\t2\tfive\t880000000", ("u.data, line 5, column rating", "'five'", "from 1 to 5")),
        ("u.data", 6, "1\t2\t6\t880000000", ("u.data, line 6, column rating", "'6'")),
        ("u.data", 7, "1\t2\t3\t-1", ("u.data, line 7, column timestamp",)),
        ("u.data", 8, "\t2\t3\t880000000", ("u.data, line 8, column user id",)),
        ("u.data", 9, "1\t99\t3\t880000000", ("u.data, line 9, column item id", "'99' is not in u.item")),
        ("u.data", 2, "1\t2\t3\t\xff\xff", ("u.data, line 2", "not utf-8 text")),
        ("u.item", 3, "3|A film|01-Jan-1990||url|0|1|0", ("u.item, line 3, column Drama", "missing")),
        ("u.item", 4, "4|A film|01-Jan-1990||url|0|1|0|2", ("u.item, line 4, column Drama", "'2' is not 0 or 1")),
        ("u.genre", 2, "Action", ("u.genre, line 2, column index", "missing")),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_column(
    replace_line: Replace, name: str, number: int, line: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(DataError) as caught:
        load(replace_line(name, number, line))
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_bad_value_is_cut_in_the_error(replace_line: Replace) -> None:
    with pytest.raises(DataError) as caught:
        load(replace_line("u.data", 1, f"1\t2\t{'9' * 5000}\t880000000"))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["u.data", "u.item", "u.genre"])
def test_a_missing_file_is_named(ml100k_folder: Path, name: str) -> None:
    (ml100k_folder / name).unlink()
    with pytest.raises(DataError, match=f"{name}: no such file"):
        load(ml100k_folder)


def test_ratings_that_are_empty_are_refused(ml100k_folder: Path) -> None:
    (ml100k_folder / "u.data").write_text("\n")
    with pytest.raises(DataError, match="no ratings"):
        load(ml100k_folder)


def test_a_damaged_gzip_is_named(ml100k_folder: Path) -> None:
    (ml100k_folder / "u.data.gz").write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(DataError, match=r"u\.data\.gz: is cut off"):
        load(ml100k_folder)
