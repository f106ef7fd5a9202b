"""reference.json is read as it was written, and refused if it is malformed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contract.bundle.reference import BadReferenceError, format_reference, parse_reference
from tests.support.references import reference_of


def test_a_record_is_read_as_it_was_written() -> None:
    assert parse_reference(format_reference(reference_of())) == reference_of()
    assert parse_reference(format_reference(reference_of(ages=None))).ages is None


def test_fields_of_a_later_version_are_ignored() -> None:
    document = json.loads(format_reference(reference_of()))
    document["scores"]["mean"] = document["later"] = 1
    assert parse_reference(json.dumps(document).encode()) == reference_of()


def test_the_share_of_unknown_items_needs_items() -> None:
    found = reference_of()
    assert (found.candidates.unknown_share, found.behaviours.unknown_share) == (0.2, None)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("schema", 2, "schema"),
        ("scores", {"edges": [1.0, 1.0], "counts": [1, 1, 1]}, "scores: Value error, edges must rise"),
        ("scores", {"edges": [1.0, 1.00000001], "counts": [1, 1, 1]}, "edges must rise"),  # equal as float32
        ("scores", {"edges": [1.0], "counts": [1]}, "one more count"),
        ("scores", {"edges": [1.0], "counts": [0, 0]}, "no observations"),
        ("scores", {"edges": [1e300], "counts": [1, 1]}, "scores.edges.0"),
        ("scores", {"edges": [], "counts": [1]}, "scores.edges"),
        ("scores", {"edges": list(range(33)), "counts": [1] * 34}, "scores.edges"),
        ("lengths", {"edges": [0.5], "counts": [1, 1]}, "lengths.edges.0"),
        ("lengths", {"edges": [1], "counts": [1, -1]}, "lengths.counts.1"),
        ("ages", {"edges": [1, 2, 2], "counts": [1, 1, 1, 1]}, "edges must rise"),
        ("candidates", {"known": 1}, "candidates.unknown"),
        ("queries", None, "queries"),
    ],
)
def test_a_malformed_record_is_refused_with_the_field(place: str, value: Any, said: str) -> None:
    document = {**json.loads(format_reference(reference_of())), place: value}
    with pytest.raises(BadReferenceError, match=r"reference\.json: ") as caught:
        parse_reference(json.dumps(document).encode())
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b" " * 70_000])
def test_other_content_is_refused(content: bytes) -> None:
    with pytest.raises(BadReferenceError, match=r"reference\.json"):
        parse_reference(content)
