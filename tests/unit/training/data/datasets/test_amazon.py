from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from training.data.datasets import amazon
from training.data.datasets.interactions import DataError
from training.data.prepare import load_prepared, prepare

DAY = 86_400_000
FIRST = 1_000_080_000_000
YEAR_2000 = 946_684_800_000
REVIEWS = [
    "user_id,item_id,timestamp,pos",
    "1,1,1000080000,0",
    "1,3,1000080000,2",
    "1,2,1000080000,1",
    "2,3,1000166400,0",
    "2,1,1000252800,1",
]
ITEMS = [
    "item_id,category,attributes,also_bought,also_viewed",
    "1,27,173 1 162,2 3,2",
    "2,0,,1,",
    "3,,5,1 2,3",
]


def _write(folder: Path, reviews: list[str] = REVIEWS, items: list[str] | None = ITEMS) -> Path:
    (folder / amazon.REVIEWS).write_bytes(gzip.compress("\n".join(reviews).encode()))
    if items is not None:
        (folder / amazon.ITEMS).write_bytes(gzip.compress("\n".join(items).encode()))
    return folder


def _with(lines: list[str], number: int, line: str) -> list[str]:
    return [line if place == number else other for place, other in enumerate(lines, start=1)]


def test_reviews_of_one_day_stand_in_the_order_of_the_sequence(tmp_path: Path) -> None:
    loaded = amazon.beauty(_write(tmp_path))
    assert loaded.users == ["1", "1", "1", "2", "2"]
    assert loaded.items == ["1", "2", "3", "3", "1"]
    assert loaded.times_ms.tolist() == [FIRST, FIRST, FIRST, FIRST + DAY, FIRST + 2 * DAY]
    assert loaded.has_times


def test_category_and_attributes_are_features_and_none_is_unknown(tmp_path: Path) -> None:
    catalogue = amazon.beauty(_write(tmp_path)).catalogue
    assert catalogue["1"].features == {"category": ("27",), "attributes": ("173", "1", "162")}
    assert catalogue["2"].features == {"category": (), "attributes": ()}
    assert catalogue["3"].features["category"] == ()


def test_what_was_bought_along_tells_the_future_and_is_not_read(tmp_path: Path) -> None:
    catalogue = amazon.beauty(_write(tmp_path)).catalogue
    assert {name for facts in catalogue.values() for name in facts.features} == {"category", "attributes"}


def test_reviews_without_a_time_follow_the_last_known_one(tmp_path: Path) -> None:
    reviews = ["user_id,item_id,timestamp,pos", "1,1,1000080000,0", "1,2,,1", "1,3,,2", "2,3,1000166400,0", "2,1,,1"]
    loaded = amazon.toys(_write(tmp_path, reviews))
    assert loaded.times_ms.tolist() == [FIRST, FIRST + 1, FIRST + 2, FIRST + DAY, FIRST + DAY + 1]
    assert not loaded.has_times


def test_without_any_times_the_place_in_the_sequence_is_the_day(tmp_path: Path) -> None:
    reviews = ["user_id,item_id,pos", "1,1,0", "1,3,2", "1,2,1", "2,3,0"]
    loaded = amazon.instruments(_write(tmp_path, reviews, None))
    assert loaded.items == ["1", "2", "3", "3"]
    assert loaded.times_ms.tolist() == [YEAR_2000, YEAR_2000 + DAY, YEAR_2000 + 2 * DAY, YEAR_2000]
    assert not loaded.has_times
    assert loaded.catalogue == {}


def test_made_up_times_are_told_of_in_the_prepared_data(tmp_path: Path) -> None:
    reviews = ["user_id,item_id,pos", "1,1,0", "1,2,1", "2,2,0", "2,1,1"]
    prepare(amazon.instruments(_write(tmp_path, reviews, None)), tmp_path / "d", core=2)
    assert load_prepared(tmp_path / "d").has_times is False
    prepare(amazon.beauty(_write(tmp_path)), tmp_path / "e", core=1)
    assert load_prepared(tmp_path / "e").has_times is True


@pytest.mark.parametrize(
    ("reviews", "items", "words"),
    [
        (_with(REVIEWS, 3, "1,3,1000080000,last"), ITEMS, "interactions.csv.gz, line 3, column pos: 'last'"),
        (_with(REVIEWS, 3, "1,3,soon,2"), ITEMS, "interactions.csv.gz, line 3, column timestamp: 'soon'"),
        (
            _with(REVIEWS, 3, "1,3,86400,2"),
            ITEMS,
            "line 3, column timestamp: '86400' is not a whole number",
        ),
        (_with(REVIEWS, 3, "1,3,1000079999,2"), ITEMS, "interactions.csv.gz, line 3, column timestamp: earlier than"),
        (_with(REVIEWS, 5, "2,3,,0"), ITEMS, "interactions.csv.gz, line 5, column timestamp: empty, and no earlier"),
        (_with(REVIEWS, 3, "1,4,1000080000,2"), ITEMS, "line 3, column item_id: '4' is not in items.csv.gz"),
        (_with(REVIEWS, 3, "1,3"), ITEMS, "interactions.csv.gz, line 3, column timestamp: missing"),
        (REVIEWS, _with(ITEMS, 2, "1,hair,173,,"), "items.csv.gz, line 2, column category: 'hair'"),
        (REVIEWS, _with(ITEMS, 3, ",0,,,"), "items.csv.gz, line 3, column item_id"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_column(
    tmp_path: Path, reviews: list[str], items: list[str], words: str
) -> None:
    with pytest.raises(DataError) as caught:
        amazon.beauty(_write(tmp_path, reviews, items))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", [amazon.REVIEWS, amazon.ITEMS])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (_write(tmp_path) / name).unlink()
    with pytest.raises(DataError, match=f"{name}: no such file"):
        amazon.toys(tmp_path)
