"""From bytes to values and back, beyond the cases in the table of bad inputs."""

from __future__ import annotations

import json

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.behaviours.actions import ACTION_CODES
from contract.behaviours.grammar import is_id
from contract.behaviours.records import item_keys, unpack
from contract.bundle.vocabulary import Vocabulary
from service.errors import InvalidRequest, RankerError
from service.http import codec, requests
from service.http.behaviour_records import records_by_user, records_of, stored_body
from service.settings.limits import LimitsSettings
from service.store.behaviours import StoredBehaviours
from tests.support.builders import behaviours

LIMITS = LimitsSettings()


def refusal_of(body: bytes) -> RankerError | None:
    for parse in (codec.parse_rank, codec.parse_behaviours, codec.parse_feedback):
        try:
            parse(body, LIMITS)
        except RankerError as error:
            return error
    return None


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_as_what_they_are(body: bytes) -> None:
    error = refusal_of(body)
    assert error is not None
    assert error.status in {400, 422}


SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text()
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    SCALARS | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["user_id", "candidates", "limit", "recent", "attributes", "request_time", "explain", "context", "x"]
)


@given(st.dictionaries(FIELDS, JSON, max_size=8))
def test_any_json_is_a_request_or_a_small_refusal(document: dict[str, object]) -> None:
    try:
        body = orjson.dumps(document)
    except orjson.JSONEncodeError:
        return
    error = refusal_of(body)
    assert error is None or (error.status in {400, 413, 422} and len(error.body("r")) <= 2_048)


@given(st.text(alphabet=st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=40))
def test_every_text_of_the_grammar_is_an_id(text: str) -> None:
    assert is_id(text) == (len(text.encode()) <= 128 and text == text.strip())
    if is_id(text):
        body = orjson.dumps({"user_id": text, "candidates": [text]})
        assert codec.parse_rank(body, LIMITS).user_id == text


@given(st.text(min_size=1, max_size=5), st.sampled_from([*map(chr, range(32)), *map(chr, range(127, 160))]))
def test_no_text_with_a_control_character_is_an_id(text: str, control: str) -> None:
    assert not is_id(text + control)
    with pytest.raises(InvalidRequest):
        codec.check_ids(["fine", control + text], "candidates.{}")


def test_records_are_those_of_the_stored_format() -> None:
    sent = [
        {"item_id": "i1", "ts": 1_000},
        {"item_id": "ü", "ts": 2_000, "action": "rate", "value": 4.5, "play_ms": 7},
    ]
    records = records_of(sent)
    assert unpack([records.tobytes()]).corrupt == [0]
    assert records["item"].tolist() == item_keys(["i1", "ü"]).tolist()
    assert records["action"].tolist() == [ACTION_CODES["click"], ACTION_CODES["rate"]]
    assert (records["value"].tolist(), records["play_ms"].tolist()) == ([0, 45], [0, 7])
    assert len(records_of([])) == 0


def test_behaviours_are_grouped_by_user_in_the_order_sent() -> None:
    sent = [requests.UserBehaviour(user_id=user, item_id=item, ts=1) for user, item in ("ax", "by", "az")]
    grouped = records_by_user(sent)
    assert {user: places for user, (places, _) in grouped.items()} == {"a": [0, 2], "b": [1]}
    assert grouped["a"][1]["item"].tolist() == item_keys(["x", "z"]).tolist()


def test_stored_behaviours_are_shown_newest_first_with_the_names_that_are_known() -> None:
    stored = StoredBehaviours(behaviours(["i1", "other", "i2"], start_ms=5), truncated=True)
    body = json.loads(stored_body("u", stored, [Vocabulary(["i1"]), Vocabulary(["i2", "i1"])]))
    assert [one["item_id"] for one in body["behaviours"]] == ["i2", None, "i1"]
    assert [one["ts"] for one in body["behaviours"]] == [7, 6, 5]
    assert body["behaviours"][0]["item_key"] == f"{item_keys(['i2'])[0]:016x}"
    nothing = StoredBehaviours(np.zeros(0, dtype=stored.records.dtype), status="unavailable")
    assert json.loads(stored_body("u", nothing, []))["behaviours"] == []
