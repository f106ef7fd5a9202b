from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from training.data.datasets.interactions import DataError
from training.data.datasets.ml1m import load

MOVIES = ["1::Film é (1981)::Action|Drama", "2::Untitled::", "3::Seven (1995)::Crime"]
RATINGS = [
    "user_id,movie_id,rating,timestamp,ts_quality,ts_lo,ts_hi",
    "1,1,5,978300760,exact,,",
    "1,3,2,978300761,bounded,978300700,978300800",
    "2,2,4,978300762,exact,,",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "movies.dat").write_bytes(("\n".join(MOVIES) + "\n").encode("latin-1"))
    (tmp_path / "ratings.csv.gz").write_bytes(gzip.compress(("\n".join(RATINGS) + "\n").encode()))
    return tmp_path


def _replace(folder: Path, name: str, number: int, line: str) -> Path:
    lines = {"movies.dat": MOVIES, "ratings.csv": RATINGS}[name].copy()
    lines[number - 1] = line
    (folder / "ratings.csv.gz").unlink()
    (folder / "ratings.csv").write_text("\n".join(RATINGS) + "\n")
    (folder / name).write_bytes("\n".join(lines).encode("latin-1"))
    return folder


def test_every_rating_is_an_interaction_with_its_time_and_value(folder: Path) -> None:
    loaded = load(folder)
    assert (loaded.users, loaded.items) == (["1", "1", "2"], ["1", "3", "2"])
    assert loaded.times_ms.tolist() == [978300760000, 978300761000, 978300762000]
    assert loaded.values.tolist() == [50, 20, 40]
    assert loaded.has_times


def test_titles_years_and_genres_are_read(folder: Path) -> None:
    catalogue = load(folder).catalogue
    assert (catalogue["1"].title, catalogue["1"].year) == ("Film é (1981)", 1981)
    assert catalogue["1"].genres == ("Action", "Drama")
    assert (catalogue["2"].year, catalogue["2"].genres) == (None, ())


def test_how_well_a_time_is_known_tells_the_rating_and_reaches_nothing(folder: Path) -> None:
    known = load(folder)
    changed = "1,3,2,978300761,open,1,2"
    assert load(_replace(folder, "ratings.csv", 3, changed)).times_ms.tolist() == known.times_ms.tolist()
    assert all(not facts.features for facts in known.catalogue.values())


def test_the_official_file_is_read_as_the_assembled_one_is(folder: Path) -> None:
    assembled = load(folder)
    (folder / "ratings.csv.gz").unlink()
    (folder / "ratings.dat").write_text(
        "".join("::".join(line.split(",")[:4]) + "\n" for line in RATINGS[1:]), encoding="utf-8"
    )
    official = load(folder)
    assert (official.users, official.items) == (assembled.users, assembled.items)
    assert official.times_ms.tolist() == assembled.times_ms.tolist()
    assert official.values.tolist() == assembled.values.tolist()


@pytest.mark.parametrize(
    ("name", "number", "line", "words"),
    [
        ("ratings.csv", 3, "1,3,6,978300761,exact,,", "ratings.csv, line 3, column rating: '6'"),
        ("ratings.csv", 4, "1,3,5,then,exact,,", "ratings.csv, line 4, column timestamp: 'then'"),
        ("ratings.csv", 4, "1,9,5,978300761,exact,,", "ratings.csv, line 4, column movie_id: '9' is not in movies.dat"),
        ("ratings.csv", 2, "1,3,5", "ratings.csv, line 2, column timestamp: missing"),
        ("movies.dat", 2, "2::Untitled", "movies.dat, line 2, column genres: missing"),
        ("movies.dat", 3, "::Seven (1995)::Crime", "movies.dat, line 3, column id"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_column(
    folder: Path, name: str, number: int, line: str, words: str
) -> None:
    with pytest.raises(DataError) as caught:
        load(_replace(folder, name, number, line))
    assert words in str(caught.value)


@pytest.mark.parametrize(("name", "named"), [("movies.dat", "movies.dat"), ("ratings.csv.gz", "ratings.dat")])
def test_a_missing_file_is_named(folder: Path, name: str, named: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{named}: no such file"):
        load(folder)
