"""Features of candidates in the body of a ranking."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from service.errors import InvalidRequest, RankerError, TooLarge
from service.http.rank_decoder import FeaturedBody, decode_rank, read_rank
from service.settings.limits import LimitsSettings

LIMITS = LimitsSettings(max_candidates=3)


def body(features: Any) -> bytes:
    return orjson.dumps({"user_id": "u", "candidates": ["a"], "features": features})


@pytest.mark.parametrize(
    "features",
    [
        {},
        {"a": {}},
        {"a": {"genres": ["x", 3], "year": 1995, "length": 2.5, "title": "Two words"}, "other": {"year": 1}},
    ],
)
def test_features_are_read_as_they_are(features: dict[str, Any]) -> None:
    wanted = read_rank(body(features), LIMITS)
    assert isinstance(wanted, FeaturedBody)
    assert wanted.features == features


def test_a_body_without_features_is_decoded_fast() -> None:
    wanted = decode_rank(b'{"user_id":"u","candidates":["a"]}', LIMITS)
    assert wanted is not None
    assert not isinstance(wanted, FeaturedBody)


@pytest.mark.parametrize(
    ("features", "field"),
    [
        ([], "features"),
        ({"a": 3}, "features.0"),
        ({"a": {"year": None}}, "features.0.year"),
        ({"a": {"year": {"x": 1}}}, "features.0.year"),
        ({"a": {"year": True}}, "features.0.year"),
        ({"a": {"tags": [["x"]]}}, "features.0.tags"),
        ({"a": {"tags": ["x"] * 65}}, "features.0.tags"),
        ({"a": {"title": "x" * 2_001}}, "features.0.title"),
        ({"a": {"x" * 65: 1}}, "features.0"),
        ({"a": {str(place): 1 for place in range(65)}}, "features.0"),
        ({"": {"year": 1}}, "features."),
    ],
)
def test_features_that_cannot_be_read_are_refused_and_named(features: object, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_rank(body(features), LIMITS)
    assert str(refused.value.field).startswith(field)


def test_as_many_items_as_candidates_may_have_features() -> None:
    with pytest.raises(TooLarge) as refused:
        read_rank(body({str(place): {} for place in range(4)}), LIMITS)
    assert refused.value.field == "features"
    assert isinstance(refused.value, RankerError)
