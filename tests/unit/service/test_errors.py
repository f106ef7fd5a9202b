"""Errors: small, fixed, and nothing of the caller's but a field's name."""

from __future__ import annotations

import json

import pytest

from service import errors
from service.errors import Detail, InvalidRequest, NotReady, Overloaded, RankerError

KINDS = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, RankerError)]
CLASSES = sorted((one for one in KINDS if one is not RankerError), key=lambda one: one.__name__)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_a_code_a_status_and_a_message_under_512_bytes(kind: type[RankerError]) -> None:
    body = kind().body("r" * 128)
    error = json.loads(body)["error"]
    assert error == {"code": kind.code, "message": kind().message, "request_id": "r" * 128}
    assert error["message"].endswith(".")
    assert 400 <= kind.status <= 599
    assert len(body) <= 512


def test_the_tree_in_the_file_names_every_class_with_its_status() -> None:
    tree = errors.__doc__ or ""
    for kind in CLASSES:
        [line] = [line for line in tree.splitlines() if f" {kind.__name__} " in line]
        assert str(kind.status) in line


def test_a_field_is_cut_to_64_printable_characters() -> None:
    error = InvalidRequest("is not a known field", field="x\r\n\u202e" + "y" * 1_000)
    field = json.loads(error.body("r"))["error"]["field"]
    assert field == "x???" + "y" * 60


def test_many_long_details_still_fit_two_kilobytes() -> None:
    details = [Detail("é" * 64, "must be " + "m" * 300) for _ in range(100)]
    body = InvalidRequest(field="x", details=details).body("r")
    assert len(body) <= errors.MAX_BODY_BYTES
    assert 1 <= len(json.loads(body)["error"]["details"]) <= errors.MAX_DETAILS


def test_what_may_work_later_says_when() -> None:
    assert Overloaded().retry_after == NotReady().retry_after == 1
    assert Overloaded(retry_after=5).retry_after == 5
    assert InvalidRequest().retry_after is None
