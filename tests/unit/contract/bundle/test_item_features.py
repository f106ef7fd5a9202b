"""Raw features of an item become the codes that a bundle's graph reads, or an error that names the feature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.bundle.item_features import FeatureCoder, FeatureError, FeatureSpec

SPECS = (
    FeatureSpec(name="author", kind="category", values=1, cardinality=3),
    FeatureSpec(name="tags", kind="list", values=2, cardinality=4),
    FeatureSpec(name="title", kind="words", values=3, cardinality=4),
    FeatureSpec(name="length", kind="number", values=1, cardinality=4, edges=(100, 500)),
)
CODER = FeatureCoder(
    SPECS, {"author": ["ann", "7"], "tags": ["sport", "law", "food"], "title": ["cup", "wins", "last"]}
)


@pytest.mark.parametrize(
    ("name", "value", "codes"),
    [
        ("author", "ann", [1]),
        ("author", 7, [2]),
        ("author", ["7"], [2]),
        ("author", "never met", [0]),
        ("author", None, [0]),
        ("tags", ["food", "never met", "law", "sport"], [3, 2]),
        ("tags", ["law", "law"], [2, 0]),
        ("tags", [], [0, 0]),
        ("title", "Last CUP: a cup wins!", [3, 1, 2]),
        ("length", 99.5, [1]),
        ("length", 100, [2]),
        ("length", 1e9, [3]),
    ],
)
def test_a_raw_value_becomes_codes(name: str, value: object, codes: list[int]) -> None:
    found = CODER.codes({name: value})
    assert found[name].tolist() == codes
    assert all(not found[other].any() for other in found if other != name)
    assert list(found) == [spec.name for spec in SPECS]
    assert {array.dtype for array in found.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        ({"colour": "red"}, "colour"),
        ({"author": ["ann", "7"]}, "author: expected one value"),
        ({"author": {}}, "author"),
        ({"author": True}, "author"),
        ({"tags": ["x"] * 65}, "tags: expected at most 64"),
        ({"tags": [["sport"]]}, "tags"),
        ({"title": 3}, "title"),
        ({"title": "x" * 2_001}, "title"),
        ({"length": "many"}, "length"),
        ({"length": float("nan")}, "length"),
        ({"length": 10**5000}, "length"),
        ({"author": 10**5000}, "author"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_and_the_feature_named(features: dict[str, Any], problem: str) -> None:
    with pytest.raises(FeatureError, match=problem):
        CODER.codes(features)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@given(features=st.dictionaries(st.sampled_from([spec.name for spec in SPECS]), JSON))
def test_any_json_gives_codes_in_range_or_a_feature_error(features: dict[str, Any]) -> None:
    try:
        found = CODER.codes(features)
    except FeatureError:
        return
    for spec in SPECS:
        assert found[spec.name].shape == (spec.values,)
        assert 0 <= found[spec.name].min() <= found[spec.name].max() < spec.cardinality


@pytest.mark.parametrize("edges", [(), (1.0,), (2.0, 1.0), (1.0, float("nan"))])
def test_edges_that_do_not_fit_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        FeatureSpec(name="length", kind="number", values=1, cardinality=4, edges=edges)
