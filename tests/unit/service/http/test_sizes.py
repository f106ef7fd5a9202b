"""Bodies with very many values are refused before they are parsed, and no valid one is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import TooLarge
from service.http import codec, rank_decoder
from service.http.rank_decoder import read_rank
from service.http.sizes import bound_values, has_more_values, most_of_events, most_of_ranking
from service.settings.limits import LimitsSettings

LIMITS = LimitsSettings()
FULL = '{["\\,[' * 18  # 126 characters of an id, each of which is counted outside of a text
TEXTS = st.text(st.sampled_from('{}[],:"\\ aé\u2028'), max_size=8)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
)


def count(document: Any) -> int:
    """The slow reference: every value, and the keys of objects are none."""
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return 1 + sum(map(count, inner))


@given(DOCUMENTS, st.booleans())
def test_values_are_counted_outside_of_texts_only(document: Any, ascii_only: bool) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    least, most = count(document) - 1, 2 * count(document)
    assert not least or has_more_values(body, least - 1)
    assert not has_more_values(body, most)


def test_the_count_goes_on_in_a_text_that_is_longer_than_a_piece() -> None:
    text = "x" * 65_530 + ",[{" * 30_000
    assert not has_more_values(json.dumps(["a", text, text, "b"]).encode(), 4)
    assert has_more_values(json.dumps(["a", text, text, "b"]).encode(), 3)


def test_the_largest_valid_ranking_is_parsed_whatever_its_texts_are() -> None:
    recent = {"item_id": FULL, "ts": 1_700_000_000_000, "action": "click", "play_ms": 1, "value": 1.5}
    ranking = {
        "user_id": FULL, "candidates": [f"{FULL}{n}"[-128:] for n in range(2_000)], "recent": [recent] * 500,
        "attributes": {f"{n}{FULL}"[:128]: FULL for n in range(32)}, "context": {f"{n}": FULL for n in range(16)},
    }  # fmt: skip
    limits = LIMITS.model_copy(update={"max_body_bytes": 10_000_000})
    body = json.dumps(ranking).encode()
    assert body.count(b"[") > most_of_ranking(limits)
    assert len(read_rank(body, limits).candidates) == 2_000


def test_the_largest_valid_writes_are_parsed_whatever_their_texts_are() -> None:
    ids = ("event_id", "item_id", "author_id", "device_id", "view_id", "request_id")
    event = {"user_id": FULL, "type": "play_end", "ts": 1_700_000_000_000, **dict.fromkeys(ids, FULL)}
    event |= {"play_ms": 1, "duration_ms": 1, "tz_offset": 0, "value": 1.0}
    body = json.dumps({"feedback": [event] * 1_000}).encode()
    assert body.count(b"[") > most_of_events(LIMITS)
    assert len(codec.parse_feedback(body, LIMITS)) == 1_000


@pytest.mark.parametrize("key", ["features", "f\\u0065atures", "\\u0066eatures"])
def test_a_body_with_features_is_left_to_the_parser(key: str) -> None:
    features = ",".join(f'"i{n}":{{"a":[1,2,3,4,5,6,7,8],"b":2}}' for n in range(2_000))
    body = f'{{"user_id":"u1","candidates":["i1"],"{key}":{{{features}}}}}'.encode()
    assert len(read_rank(body, LIMITS).features) == 2_000  # type: ignore[attr-defined]


@pytest.mark.parametrize("unit", ["[]", "{}", '""', '"a"', "1", '{"a":1}', "[" * 900 + "]" * 900, '"\\\\"', '"\\""'])
def test_more_values_than_a_ranking_has_are_refused_before_the_parser_makes_them(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_decoder, "decode_rank", lambda *_: pytest.fail("it was parsed"))
    body = f'{{"user_id":"u1","candidates":[{",".join([unit] * (1_000_000 // (len(unit) + 1)))}]}}'.encode()
    with pytest.raises(TooLarge, match="at most 20400 values"):
        read_rank(body, LIMITS)


def test_the_bound_follows_the_settings() -> None:
    limits = LIMITS.model_copy(update={"max_candidates": 50_000})
    body = json.dumps({"user_id": "u1", "candidates": [f"i{n}" for n in range(50_000)]}).encode()
    bound_values(body, most_of_ranking(limits))
    with pytest.raises(TooLarge):
        bound_values(body, most_of_ranking(LIMITS))
