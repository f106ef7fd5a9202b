"""The fast decoder of a ranking's body and the friendly validator agree on what they accept, and on every value."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contract.behaviours.actions import ACTIONS
from contract.behaviours.grammar import MIN_TIME_MS
from contract.behaviours.records import MAX_PLAY_MS, MAX_TIME_MS
from service.errors import RankerError
from service.http.behaviour_records import records_of
from service.http.codec import parse_rank
from service.http.rank_decoder import RankBody, decode_rank, read_rank
from service.http.rank_decoder import records_of as records_of_structs
from service.http.sizes import bound_values, most_of_ranking
from service.settings.limits import LimitsSettings
from tests.e2e.corpus.recorded import body_of, recorded

Read = TypeVar("Read")
LIMITS = LimitsSettings(max_candidates=8, max_recent=4)

# --- valid bodies, in all spellings

odd = st.sampled_from(
    ["i1", "a b", "é", "👩‍👩‍👧‍👦", "e\u0301", "\ufeffa", "x" * 128, "é" * 64, '"', "\\", "/", "\u2028", "\x80a"]
)
ids = st.text(min_size=1, max_size=9) | odd
times = st.integers(MIN_TIME_MS, MAX_TIME_MS - 1) | st.sampled_from([MIN_TIME_MS, MAX_TIME_MS - 1])
numbers = st.integers() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False, allow_infinity=False)
values = st.text(max_size=9) | st.booleans() | numbers | st.sampled_from(["", " ", "x" * 128, 2**63 - 1, 2**63, 2**64])
behaviours = st.fixed_dictionaries(
    {"item_id": ids, "ts": times},
    optional={
        "action": st.sampled_from(ACTIONS), "play_ms": st.integers(0, MAX_PLAY_MS),
        "value": st.floats(0, 25.5) | st.integers(0, 25) | st.sampled_from([25.5, -0.0]),
    },
)  # fmt: skip
bodies = st.fixed_dictionaries(
    {"user_id": ids, "candidates": st.lists(ids, min_size=1, max_size=8)},
    optional={
        "limit": st.integers(1, 2**31 - 1), "recent": st.lists(behaviours, max_size=4),
        "attributes": st.dictionaries(ids, values, max_size=4), "request_time": times, "explain": st.booleans(),
        "seen": st.sampled_from(["keep", "last", "drop"]),
        "context": st.dictionaries(
            st.sampled_from(["device", "tz_offset", "", "x" * 64, "x" * 65]) | ids, values, max_size=4
        ),
    },
)  # fmt: skip

# --- what is wrong with others

TOKENS = [
    "0", "-0", "-0.0", "1", "-1", "1.0", "1e3", "1E-3", "25.5", "25.500000000000001", "26", "01", "1.", ".5", "+1",
    "1e400", "1e-400", "NaN", "Infinity", "null", "true", "false", "[]", "{}", '""', '" "', '"a"', '" a"',
    '"a\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\udc00"', '"\\u00a0a"', '"\x7f"', '"a\x01"', '"\x85"',
    '"click"', '"Click"', '"drop"', '"Last"',
    f'"{"x" * 128}"', f'"{"x" * 129}"', f'"{"é" * 65}"', "2147483647", "2147483648",
    "4294967295", "4294967296", "31535999999", "31536000000", "253402300799999", "253402300800000",
    "1700000000000.0", str(2**63 - 1), str(2**63), str(-(2**63)), str(-(2**63) - 1), str(2**64 - 1), str(2**64),
    "9" * 400, "[1]", '["a"]', '{"a":1}', '{"a":null}', '{"a":[]}', '[{"item_id":"a","ts":1700000000000}]',
    "[" * 1_100 + "]" * 1_100, "[" * 30 + "]" * 30, "a", "",
]  # fmt: skip
NAMES = [
    "user_id", "candidates", "limit", "recent", "attributes", "request_time", "explain", "seen", "context", "User_Id",
    "x", "", "user_id ",
]  # fmt: skip
PIECES = [b"", b" ", b'"', b"\\", b",", b"\xff", b"\x7f", b"\x00", b"{}", b"1", b".0", b"\xef\xbb\xbf", b"\xed\xa0\x80"]
INSIDE = ["item_id", "ts", "action", "play_ms", "value", "user_id"]
tokens = st.sampled_from(TOKENS)


@st.composite
def spelt(draw: st.DrawFn, source: st.SearchStrategy[dict[str, Any]] = bodies) -> bytes:
    document = draw(source)
    style: dict[str, Any] = draw(st.sampled_from([{"separators": (",", ":")}, {}, {"indent": 1}]))
    text = json.dumps(document, ensure_ascii=draw(st.booleans()), **style)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def patched(draw: st.DrawFn) -> bytes:
    """Return fields in any order, some twice, with any token as a value."""
    fields = [('"user_id"', '"u"'), ('"candidates"', '["a"]')]
    fields += draw(st.lists(st.tuples(st.sampled_from(NAMES).map(json.dumps), tokens), max_size=3))
    inside = draw(st.lists(st.tuples(st.sampled_from(INSIDE).map(json.dumps), tokens), max_size=2))
    if inside:
        one = [('"item_id"', '"a"'), ('"ts"', "1700000000000"), *inside]
        fields.append(('"recent"', "[{" + ",".join(f"{name}:{value}" for name, value in one) + "}]"))
    attributes = draw(st.lists(st.tuples(tokens.filter(lambda text: text.startswith('"')), tokens), max_size=2))
    if attributes:
        fields.append(('"attributes"', "{" + ",".join(f"{name}:{value}" for name, value in attributes) + "}"))
    fields += [('"candidates"', f"[{token}]") for token in draw(st.lists(tokens, max_size=1))]
    return ("{" + ",".join(f"{name}:{value}" for name, value in draw(st.permutations(fields))) + "}").encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a good body with some bytes replaced, taken out or put in."""
    body = bytearray(draw(spelt()))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(body)))
        piece = draw(st.sampled_from(PIECES))
        body[place : place + draw(st.integers(0, 2))] = piece
    return bytes(body)


def outcome(read: Callable[[bytes, LimitsSettings], Read], body: bytes, limits: LimitsSettings) -> Read | bytes:
    """Return what a body is read as, or the answer that refuses it."""
    try:
        return read(body, limits)
    except RankerError as error:
        return error.body("")


def bounded(body: bytes, limits: LimitsSettings) -> None:
    bound_values(body, most_of_ranking(limits))


def check(body: bytes, limits: LimitsSettings = LIMITS) -> RankBody | None:
    """Hold one body against both; return what the fast one made of it."""
    refused = outcome(bounded, body, limits)
    if refused is not None:  # neither of them sees it
        assert outcome(read_rank, body, limits) == refused
        return None
    fast = decode_rank(body, limits)
    slow = outcome(parse_rank, body, limits)
    if isinstance(slow, bytes):
        assert fast is None
        assert outcome(read_rank, body, limits) == slow
        return None
    for one in (fast, read_rank(body, limits)):
        if one is not None:
            # By repr: 1, 1.0 and true are different values here.
            assert [one.user_id, one.candidates, one.limit, one.request_time] == [
                slow.user_id, slow.candidates, slow.limit, slow.request_time
            ]  # fmt: skip
            assert repr([one.attributes, one.explain, one.seen]) == repr([slow.attributes, slow.explain, slow.seen])
            assert repr(one.context) == repr(slow.context)
            assert records_of_structs(one.recent).tobytes() == records_of(slow.recent).tobytes()
    return fast


@given(spelt())
@settings(max_examples=2 * settings.default.max_examples)
def test_valid_bodies_mean_the_same_to_both(body: bytes) -> None:
    check(body)


@given(patched())
@settings(max_examples=2 * settings.default.max_examples)
@example(b'{"user_id":"u","candidates":["a"],"attributes":{"a":18446744073709551616}}')
@example(b'{"user_id":"u","candidates":["a"],"request_time":null}')
@example(b'{"limit":"x","user_id":"u","candidates":["a"],"limit":1}')
@example(b'{"user_id":"u","candidates":["a"],"attributes":{"a":1,"a":[]}}')
def test_odd_values_mean_the_same_to_both(body: bytes) -> None:
    check(body)


@given(damaged())
@settings(max_examples=2 * settings.default.max_examples)
def test_damaged_bodies_mean_the_same_to_both(body: bytes) -> None:
    check(body)


@given(st.binary(max_size=40) | st.text(max_size=20).map(lambda text: json.dumps(text).encode()))
def test_other_bytes_mean_the_same_to_both(body: bytes) -> None:
    check(body)


plain = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, blacklist_characters='"\\'), min_size=1, max_size=9
)
plain_behaviours = behaviours.map(lambda one: one | {"item_id": "i1"})


@given(st.lists(plain, min_size=1, max_size=8), plain, st.lists(plain_behaviours, max_size=4))
def test_usual_bodies_are_decoded_fast(candidates: list[str], user: str, recent: list[dict[str, Any]]) -> None:
    body = {"user_id": user, "candidates": candidates, "recent": recent, "attributes": {"os": user, "age": 7}}
    assert check(orjson.dumps(body)) is not None
    assert check(json.dumps(body).encode()) is not None


@pytest.mark.parametrize("group", ["rankings", "bodies"])
def test_recorded_bodies_mean_the_same_to_both(group: str) -> None:
    """The corpus of the service's answers: what was answered with 200 is decoded fast, but for a few oddities."""
    slowly = set()
    for name, line in recorded(group).items():
        if name.startswith("Content-Encoding gzip"):
            continue
        fast = check(body_of(line), LimitsSettings())
        is_packed = name.startswith("Content-Encoding")  # the decoder gets it unpacked
        if fast is None and not is_packed and line["answers"][0].startswith("HTTP/1.1 200"):
            slowly.add(name.removeprefix("attributes: ").removeprefix("attributes, targeted: "))
    assert slowly <= {"a bad value and its good repeat", "unsigned 64 bits", "beyond 64 bits", "below 64 bits"}


def test_lists_may_be_as_long_as_the_limits_say() -> None:
    one = {"item_id": "a", "ts": MIN_TIME_MS}
    for candidates, recent in ((8, 4), (9, 4), (8, 5)):
        body = orjson.dumps({"user_id": "u", "candidates": ["a"] * candidates, "recent": [one] * recent})
        assert (check(body) is not None) == ((candidates, recent) == (8, 4))
