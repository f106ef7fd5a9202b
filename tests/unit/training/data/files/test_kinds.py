"""Item features by kind: their codes, their stable names, and their errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.own_files import write_rows
from training.data.datasets.interactions import DataError, Interactions
from training.data.files.kinds.category import Category
from training.data.files.kinds.embedding import Embedding
from training.data.files.kinds.number import Number
from training.data.files.kinds.texts import Texts
from training.data.files.kinds.words import Words
from training.data.item_field import ItemField, Names
from training.data.sources import MappingOptions, read_source

TS = 1_700_000_000_000


def codes(field: ItemField) -> list[list[int]]:
    assert field.features is not None
    return field.features.codes[1:].tolist()


def names(field: ItemField) -> tuple[str, ...]:
    assert field.features is not None
    return field.features.names


def test_a_category_has_one_code_and_zero_if_unknown() -> None:
    kind = Category(kind="category")
    field = kind.code([kind.read((cell,)) for cell in ("shoes", "", "hats", None, " shoes ")])
    assert names(field) == ("hats", "shoes")
    assert codes(field) == [[2], [0], [1], [0], [2]]


def test_a_list_comes_from_text_or_from_a_list_column() -> None:
    kind = Texts(kind="list", separator=";", most=2)
    field = kind.code([kind.read((cell,)) for cell in ("b; a;b", ["c", "a"], [], "x;y;z")])
    assert names(field) == ("a", "b", "c", "x", "y")
    assert codes(field) == [[2, 1], [3, 1], [0, 0], [4, 5]]


def test_words_are_those_that_two_items_share() -> None:
    kind = Words(kind="words")
    field = kind.code([kind.read((cell,)) for cell in ("The Red Shoe", "red hat", "", "Shoe 7")])
    assert names(field) == ("red", "shoe")
    assert codes(field) == [[1, 2], [1, 0], [0, 0], [2, 0]]


def test_a_number_has_the_bucket_of_its_quantile_and_stays_as_a_number() -> None:
    kind = Number(kind="number", buckets=4)
    field = kind.code([kind.read((cell,)) for cell in ("1", 2, 3.0, "4", None, float("nan"))])
    assert codes(field) == [[1], [2], [3], [4], [0], [0]]
    assert len(names(field)) == 4
    assert field.numbers is not None
    np.testing.assert_array_equal(field.numbers, np.array([np.nan, 1, 2, 3, 4, np.nan, np.nan], dtype=np.float32))


def test_given_edges_are_used() -> None:
    kind = Number(kind="number", edges=(10.0, 20.0))
    field = kind.code([9.0, 10.0, 19.9, 20.0])
    assert codes(field) == [[1], [2], [2], [3]]
    assert names(field) == ("below 10", "10 to 20", "from 20")


@pytest.mark.parametrize("kind", [Category(kind="category"), Texts(kind="list"), Words(kind="words")])
def test_later_names_are_appended(kind: Any) -> None:
    first = kind.code([kind.read((cell,)) for cell in ("pear", "pear", "plum", "plum")])
    later = kind.code([kind.read((cell,)) for cell in ("apple", "plum", "apple")], Names(names(first)))
    assert names(later) == ("pear", "plum", "apple")
    assert codes(later) == [[3], [2], [3]]


def test_later_numbers_keep_the_edges() -> None:
    kind = Number(kind="number", buckets=4)
    first = kind.code([1.0, 2.0, 3.0, 4.0])
    later = kind.code([100.0, 200.0, 1.0], Names(names(first), first.edges))
    assert names(later) == names(first)
    assert codes(later) == [[4], [4], [1]]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [(([0.5, 1],), [0.5, 1]), (("[0.5, 1]",), [0.5, 1]), ((None,), None), (("",), None), (([None, None],), None)],
)
def test_an_embedding_is_a_list_of_numbers(cells: tuple[Any, ...], expected: list[float] | None) -> None:
    found = Embedding(kind="embedding").read(cells)
    assert (None if found is None else found.tolist()) == expected


def test_an_embedding_of_columns_goes_up_to_the_last_number() -> None:
    kind = Embedding(kind="embedding", prefix="e")
    assert kind.columns(
        "content", ["e10", "e1", "id", *(f"e{place}" for place in (0, *range(2, 10))), "extra"]
    ) == tuple(f"e{place}" for place in range(11))
    assert kind.columns("content", ["id", "e0", "e2"]) == ("e0", "e1")  # e1 is missing: the reader names it


def _items(tmp_path: Path, rows: list[dict[str, Any]], *features: str) -> Interactions:
    log = write_rows(tmp_path / "log.jsonl", [{"user": "u", "item": item, "ts": TS} for item in ("a", "b")])
    write_rows(tmp_path / "items.jsonl", rows)
    options = MappingOptions(None, ("items.file=items.jsonl", *features))
    found = read_source(str(log), None, tmp_path, None, options).interactions
    assert isinstance(found, Interactions)
    return found


@pytest.mark.parametrize(
    ("cell", "feature", "message"),
    [
        ("cheap", 'features.x={kind="number"}', "'cheap' is not a number"),
        (["a"], 'features.x={kind="category"}', "is a list or an object"),
        ([1, "b"], 'features.x={kind="embedding"}', "is not a list of numbers"),
        ([1.0], 'features.x={kind="embedding"}', "has 1 numbers, and the items before it have 2"),
        ([float("inf"), 1], 'features.x={kind="embedding"}', "has a number that is not finite"),
        ([[1.0], [2.0]], 'features.x={kind="embedding"}', "is not a list of numbers"),
        ([10**400, 1], 'features.x={kind="embedding"}', "is not a list of numbers"),
        (10**400, 'features.x={kind="number"}', "is too large"),
        ("1e39", 'features.x={kind="number"}', "'1e39' is too large"),
    ],
)
def test_a_malformed_feature_names_file_line_and_column(tmp_path: Path, cell: Any, feature: str, message: str) -> None:
    first = {"embedding": [1.0, 2.0], "number": 3, "category": "x"}[feature.split('"')[1]]
    with pytest.raises(DataError, match=r"items\.jsonl, line 2, column x: ") as error:
        _items(tmp_path, [{"item": "a", "x": first}, {"item": "b", "x": cell}], feature)
    assert message in str(error.value)


def test_items_that_are_not_in_the_log_are_counted(tmp_path: Path) -> None:
    rows = [{"item": item, "x": "red"} for item in ("a", "z")]
    found = _items(tmp_path, rows, 'features.x={kind="category"}')
    assert found.read["items_without_events"] == 1
    assert found.fields is not None
    assert codes(found.fields["x"].code(["b", "a"])) == [[0], [1]]
