"""Named bad inputs and the exact answer to each: the table is the specification. None is a 500, none echoes a value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.http.answers import ErrorResponse
from tests.support.fakes import NOW_MS, Edge

pytestmark = pytest.mark.anyio

MAX_TIME = 253_402_300_800_000
GOOD: dict[str, Any] = {"user_id": "u1", "candidates": ["i1", "i2"]}
CANARY = "canary-7f3a"


def raw(**fields: str) -> bytes:
    """A ranking request whose fields are given as JSON text; what is not given is good."""
    parts = {name: json.dumps(value) for name, value in GOOD.items()} | fields
    return ("{" + ",".join(f'"{name}":{text}' for name, text in parts.items()) + "}").encode()


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


RANK: dict[str, tuple[bytes, int, str | None]] = {
    # not JSON
    "empty body": (b"", 400, None),
    "not json": (b"user_id=u1", 400, None),
    "cut short": (raw()[:-1], 400, None),
    "trailing bytes": (raw() + b"x", 400, None),
    "two documents": (raw() + raw(), 400, None),
    "comment": (b"/* */" + raw(), 400, None),
    "trailing comma": (raw()[:-1] + b",}", 400, None),
    "byte order mark": (b"\xef\xbb\xbf" + raw(), 400, None),
    "utf-16": (raw().decode().encode("utf-16"), 400, None),
    "utf-32": (raw().decode().encode("utf-32"), 400, None),
    "bad utf-8": (raw(user_id='"\x00"').replace(b"\x00", b"\xff"), 400, None),
    "overlong utf-8": (raw(user_id='"\x00"').replace(b"\x00", b"\xc0\xaf"), 400, None),
    "raw NUL in a string": (raw(user_id='"\x00"'), 400, None),
    "raw line feed in a string": (raw(user_id='"\n"'), 400, None),
    "nested 30,000 deep": (raw(candidates=deep(30_000)), 400, None),
    "nested 100,000 deep": (raw(candidates=deep(100_000)), 413, "body"),
    "NaN": (raw(request_time="NaN"), 400, None),
    "Infinity": (raw(request_time="Infinity"), 400, None),
    "1e999": (raw(request_time="1e999"), 400, None),
    "a number of 5,000 digits": (raw(request_time="1" * 5_000), 400, None),
    "lone high surrogate": (raw(user_id='"\\ud800"'), 400, None),
    "lone low surrogate": (raw(candidates='["\\udc00"]'), 400, None),
    "unescaped quote": (raw(user_id='"a"b"'), 400, None),
    "single quotes": (raw(user_id="'u1'"), 400, None),
    # JSON, but no object
    "array at the top": (b"[]", 422, None),
    "string at the top": (b'"u1"', 422, None),
    "number at the top": (b"1", 422, None),
    "null at the top": (b"null", 422, None),
    "true at the top": (b"true", 422, None),
    # user_id
    "no user": (b'{"candidates":["i1"]}', 422, "user_id"),
    "empty user": (raw(user_id='""'), 422, "user_id"),
    "null user": (raw(user_id="null"), 422, "user_id"),
    "number as user": (raw(user_id="7"), 422, "user_id"),
    "boolean as user": (raw(user_id="true"), 422, "user_id"),
    "array as user": (raw(user_id='["u1"]'), 422, "user_id"),
    "object as user": (raw(user_id='{"id":"u1"}'), 422, "user_id"),
    "user of 129 bytes": (raw(user_id=json.dumps("u" * 129)), 422, "user_id"),
    "user of 128 characters and 256 bytes": (raw(user_id=json.dumps("é" * 128)), 422, "user_id"),
    "user of a megabyte": (raw(user_id=json.dumps("u" * 900_000)), 422, "user_id"),
    "escaped NUL in user": (raw(user_id='"a\\u0000b"'), 422, "user_id"),
    "CR LF in user": (raw(user_id='"a\\r\\nb"'), 422, "user_id"),
    "tab in user": (raw(user_id='"a\\tb"'), 422, "user_id"),
    "escape character in user": (raw(user_id='"a\\u001b[31m"'), 422, "user_id"),
    "DEL in user": (raw(user_id='"a\\u007f"'), 422, "user_id"),
    "C1 control in user": (raw(user_id='"a\\u0085"'), 422, "user_id"),
    "a blank as user": (raw(user_id='" "'), 422, "user_id"),
    "blank before the user": (raw(user_id='" u1"'), 422, "user_id"),
    "no-break space after the user": (raw(user_id='"u1\\u00a0"'), 422, "user_id"),
    # candidates
    "no candidates": (b'{"user_id":"u1"}', 422, "candidates"),
    "0 candidates": (raw(candidates="[]"), 422, "candidates"),
    "2,001 candidates": (raw(candidates=json.dumps([str(n) for n in range(2_001)])), 413, "candidates"),
    "2,001 equal candidates": (raw(candidates=json.dumps(["1"] * 2_001)), 413, "candidates"),
    "null candidates": (raw(candidates="null"), 422, "candidates"),
    "candidates as text": (raw(candidates='"i1"'), 422, "candidates"),
    "candidates as object": (raw(candidates='{"0":"i1"}'), 422, "candidates"),
    "number among candidates": (raw(candidates='["i1",2]'), 422, "candidates.1"),
    "null among candidates": (raw(candidates='["i1",null]'), 422, "candidates.1"),
    "empty candidate": (raw(candidates='["i1",""]'), 422, "candidates.1"),
    "CR LF in candidate": (raw(candidates='["i1","a\\r\\nb"]'), 422, "candidates.1"),
    "blank before a candidate": (raw(candidates='["i1"," i2"]'), 422, "candidates.1"),
    "blank after a candidate": (raw(candidates='["i1","i2 "]'), 422, "candidates.1"),
    "long candidate": (raw(candidates=json.dumps(["i1", "é" * 65])), 422, "candidates.1"),
    "nested 1,000 deep": (raw(candidates=deep(1_000)), 422, "candidates.0"),
    "nested 100 deep": (raw(candidates=deep(100)), 422, "candidates.0"),
    # the rest
    "unknown field": (raw(colour='"blue"'), 422, "colour"),
    "unknown field in capitals": (raw(User_Id='"u1"'), 422, "User_Id"),
    "__proto__": (raw(__proto__='{"admin":true}'), 422, "__proto__"),
    "10,000 unknown fields": (raw(**{f"x{n}": "1" for n in range(10_000)}), 422, "x0"),
    "50,000 unknown fields": (raw(**{f"x{n}": "1" for n in range(50_000)}), 413, "body"),
    "300,000 empty lists": (raw(candidates="[" + "[]," * 300_000 + "[]]"), 413, "body"),
    "500,000 lists in lists": (raw(recent="[" + ("[" * 500 + "]" * 500 + ",") * 1_000 + "1]"), 413, "body"),
    "limit 0": (raw(limit="0"), 422, "limit"),
    "limit -1": (raw(limit="-1"), 422, "limit"),
    "limit true": (raw(limit="true"), 422, "limit"),
    "limit 1.0": (raw(limit="1.0"), 422, "limit"),
    "limit 1e3": (raw(limit="1e3"), 422, "limit"),
    "limit as text": (raw(limit='"7"'), 422, "limit"),
    "limit null": (raw(limit="null"), 422, "limit"),
    "limit beyond 31 bits": (raw(limit="2147483648"), 422, "limit"),
    "limit beyond 63 bits": (raw(limit="9223372036854775808"), 422, "limit"),
    "limit beyond 64 bits": (raw(limit="18446744073709551616"), 422, "limit"),
    "explain as number": (raw(explain="1"), 422, "explain"),
    "explain as text": (raw(explain='"true"'), 422, "explain"),
    "negative time": (raw(request_time="-1"), 422, "request_time"),
    "minus zero": (raw(request_time="-0"), 422, "request_time"),
    "time in seconds": (raw(request_time="1700000000"), 422, "request_time"),
    "the last moment of 1970": (raw(request_time="31535999999"), 422, "request_time"),
    "year 10000": (raw(request_time=str(MAX_TIME)), 422, "request_time"),
    "time as float": (raw(request_time="1.5"), 422, "request_time"),
    "time as NaN in text": (raw(request_time='"NaN"'), 422, "request_time"),
    "time null": (raw(request_time="null"), 422, "request_time"),
    "recent as object": (raw(recent="{}"), 422, "recent"),
    "recent of numbers": (raw(recent="[1]"), 422, "recent.0"),
    "recent without item": (raw(recent='[{"ts":1700000000000}]'), 422, "recent.0.item_id"),
    "recent without time": (raw(recent='[{"item_id":"i1"}]'), 422, "recent.0.ts"),
    "recent with unknown action": (
        raw(recent='[{"item_id":"i1","ts":1700000000000,"action":"buy"}]'),
        422,
        "recent.0.action",
    ),
    "recent with unknown field": (raw(recent='[{"item_id":"i1","ts":1700000000000,"x":1}]'), 422, "recent.0.x"),
    "recent with user": (raw(recent='[{"item_id":"i1","ts":1700000000000,"user_id":"u1"}]'), 422, "recent.0.user_id"),
    "recent with negative time": (raw(recent='[{"item_id":"i1","ts":-1}]'), 422, "recent.0.ts"),
    "recent in seconds": (raw(recent='[{"item_id":"i1","ts":1700000000}]'), 422, "recent.0.ts"),
    "recent with a blank before the item": (
        raw(recent='[{"item_id":" i1","ts":1700000000000}]'),
        422,
        "recent.0.item_id",
    ),
    "recent with huge time": (raw(recent=f'[{{"item_id":"i1","ts":{MAX_TIME}}}]'), 422, "recent.0.ts"),
    "recent with negative play": (
        raw(recent='[{"item_id":"i1","ts":1700000000000,"play_ms":-1}]'),
        422,
        "recent.0.play_ms",
    ),
    "recent with long play": (
        raw(recent='[{"item_id":"i1","ts":1700000000000,"play_ms":4294967296}]'),
        422,
        "recent.0.play_ms",
    ),
    "recent with value 26": (raw(recent='[{"item_id":"i1","ts":1700000000000,"value":26}]'), 422, "recent.0.value"),
    "recent with value true": (raw(recent='[{"item_id":"i1","ts":1700000000000,"value":true}]'), 422, "recent.0.value"),
    "recent with control character": (
        raw(recent='[{"item_id":"\\u0000","ts":1700000000000}]'),
        422,
        "recent.0.item_id",
    ),
    "501 recent": (raw(recent=json.dumps([{"item_id": "i1", "ts": NOW_MS}] * 501)), 413, "recent"),
    "recent with 10,000 unknown fields": (
        raw(recent=json.dumps([{"item_id": "i1", "ts": NOW_MS} | {f"x{n}": 1 for n in range(10_000)}])),
        422,
        "recent.0.x0",
    ),
    "attributes as array": (raw(attributes="[]"), 422, "attributes"),
    "attribute null": (raw(attributes='{"a":null}'), 422, "attributes.a"),
    "attribute nested": (raw(attributes='{"a":{"b":1}}'), 422, "attributes.a"),
    "attribute too long": (raw(attributes=json.dumps({"a": "x" * 129})), 422, "attributes.a"),
    "33 attributes": (raw(attributes=json.dumps({str(n): n for n in range(33)})), 422, "attributes"),
    "attribute without a name": (raw(attributes='{"":1}'), 422, "attributes."),
    "context as array": (raw(context="[]"), 422, "context"),
    "context null": (raw(context='{"device":null}'), 422, "context.device"),
    "context of a fraction": (raw(context='{"device":1.5}'), 422, "context.device"),
    "context true": (raw(context='{"device":true}'), 422, "context.device"),
    "context nested": (raw(context='{"device":["ios"]}'), 422, "context.device"),
    "context too long": (raw(context=json.dumps({"device": "x" * 129})), 422, "context.device"),
    "offset as text": (raw(context='{"tz_offset":"60"}'), 422, "context.tz_offset"),
    "offset in seconds": (raw(context='{"tz_offset":3600}'), 422, "context.tz_offset"),
    "17 entries of context": (raw(context=json.dumps({str(n): n for n in range(17)})), 422, "context"),
}

ACCEPTED: dict[str, bytes] = {
    "emoji": raw(user_id='"👩‍👩‍👧‍👦"', candidates='["🎬","\\ud83c\\udfac2"]'),
    "bidi, joiners, combining": raw(user_id='"\u202eabc\u200d"', candidates='["e\u0301","é"]'),
    "128 bytes": raw(user_id=json.dumps("u" * 128), candidates=json.dumps(["é" * 64])),
    "blanks inside": raw(user_id='"a b"', candidates='["the third man","a  b"]'),
    "SQL, Redis, templates": raw(
        user_id=json.dumps("'; DROP TABLE users; --"), candidates=json.dumps(["*1 $8 FLUSHALL", "{{7*7}}", "%s%n"])
    ),
    "duplicate candidates": raw(candidates='["i1","i1"]'),
    "2,000 candidates": raw(candidates=json.dumps([str(n) for n in range(2_000)])),
    "1 candidate": raw(candidates='["i1"]'),
    "candidates nobody knows": raw(candidates='["new1","new2"]'),
    "duplicate keys, the last counts": b'{"user_id":"x","user_id":"u1","candidates":["i1"]}',
    "the first moment of 1971": raw(request_time="31536000000"),
    "the year 9999": raw(request_time=str(MAX_TIME - 1)),
    "limit beyond the list": raw(limit="2147483647"),
    "a value that is whole": raw(recent='[{"item_id":"i1","ts":1700000000000,"value":5}]'),
    "blanks around": b" \r\n\t" + raw() + b"\n",
    "context of every kind": raw(context='{"device":"ios","version":17,"empty":"","tz_offset":-720}'),
    "attributes of every kind": raw(attributes='{"s":"x","i":1,"f":1.5,"b":true,"empty":""}'),
}  # fmt: skip


@pytest.mark.parametrize("name", RANK)
async def test_bad_ranking_gets_its_exact_answer(edge: Edge, name: str) -> None:
    body, status, field = RANK[name]
    async with edge.client() as client:
        answer = await client.post("/rank", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status, answer.text
        error = ErrorResponse.model_validate_json(answer.content).error
        assert error.code == ("too_large" if status == 413 else "invalid_request")
        assert error.field == field
        assert len(answer.content) <= 2_048
        assert len(answer.content) <= max(len(body), 512)
        expected = "no_unit" if field == "user_id" else "error"
        assert answer.headers["x-ab-bucket"] == f"rank=none;r={expected}"
        assert edge.ranker.asked == []
        assert (await client.post("/rank", json=GOOD)).status_code == 200


@pytest.mark.parametrize("name", ACCEPTED)
async def test_unusual_ranking_is_served(edge: Edge, name: str) -> None:
    async with edge.client() as client:
        answer = await client.post("/rank", content=ACCEPTED[name], headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text


async def test_what_was_sent_is_not_sent_back(edge: Edge) -> None:
    bodies = [
        raw(user_id=json.dumps(CANARY + "\r\n")), raw(candidates=json.dumps([CANARY + "\x00"])),
        raw(limit=json.dumps(CANARY)), raw(recent=json.dumps([{"item_id": "i", "ts": 1, "action": CANARY}])),
    ]  # fmt: skip
    async with edge.client() as client:
        for body in bodies:
            answer = await client.post("/rank", content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 422
            assert CANARY not in answer.text + str(answer.headers)


CONTENT_TYPES: dict[str | None, int] = {
    "application/json": 200,
    "Application/JSON; charset=UTF-8": 200,
    'application/json; charset="utf-8"': 200,
    "application/json;charset=utf-8": 200,
    "application/json ; charset=utf-8 ": 200,
    "application/json;": 200,
    "application/json; ; charset=utf-8": 200,
    "application/json; profile=x": 200,
    'application/json; profile="https://feed.example/; charset=latin1"': 200,
    'application/json; profile="a\\"b"; charset=UTF-8': 200,
    "application/json; odata.metadata=minimal; IEEE754Compatible=true; charset=utf-8": 200,
    "application/json; charset=iso-8859-1": 415,
    "application/json; charset=utf-8; charset=latin1": 415,
    "application/json; profile=x; charset=utf-16": 415,
    "application/json; charset=": 415,
    "application/json; charset": 415,
    "application/json; profile": 415,
    "application/json; profile = x": 415,
    'application/json; profile="x': 415,
    "application/json charset=utf-8": 415,
    "application/json/x": 415,
    "application/ld+json": 415,
    'application/json; x="' + "\\" * 15_000: 415,
    None: 415,
    "": 415,
    "text/plain": 415,
    "text/json": 415,
    "application/json; charset=utf-16": 415,
    "application/json, text/html": 415,
    "application/jsonp": 415,
    "application/x-www-form-urlencoded": 415,
    "multipart/form-data; boundary=x": 415,
}


@pytest.mark.parametrize(("content_type", "status"), CONTENT_TYPES.items())
async def test_content_type_must_be_json(edge: Edge, content_type: str | None, status: int) -> None:
    async with edge.client() as client:
        headers = {} if content_type is None else {"content-type": content_type}
        answer = await client.post("/rank", content=raw(), headers=headers)
        assert answer.status_code == status
        assert status == 200 or answer.json()["error"]["field"] == "Content-Type"


@pytest.mark.parametrize("encoding", ["deflate", "br", "gzip, gzip", "zstd", "compress", ""])
async def test_a_body_of_another_coding_is_refused(edge: Edge, encoding: str) -> None:
    async with edge.client() as client:
        headers = {"content-type": "application/json", "content-encoding": encoding}
        answer = await client.post("/rank", content=raw(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["field"]) == (415, "Content-Encoding")


@pytest.mark.parametrize("route", ["/rank", "/behaviours", "/feedback"])
async def test_ten_megabytes_are_refused_however_they_are_sent(edge: Edge, route: str) -> None:
    async def pieces() -> Any:
        for _ in range(10):
            yield b" " * 1_000_000

    async with edge.client() as client:
        for content in (b" " * 10_000_000, pieces()):
            answer = await client.post(route, content=content, headers={"content-type": "application/json"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


BEHAVIOUR = {"user_id": "u1", "item_id": "i1", "ts": NOW_MS}
EVENT = {"user_id": "u1", "type": "play_start", "item_id": "i1", "view_id": "v1"}


def _without(event: dict[str, Any], field: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != field}


WRITES: dict[str, tuple[str, Any, int, str | None]] = {
    "no behaviours": ("/behaviours", {}, 422, "behaviours"),
    "0 behaviours": ("/behaviours", {"behaviours": []}, 422, "behaviours"),
    "1,001 behaviours": ("/behaviours", {"behaviours": [BEHAVIOUR] * 1_001}, 413, "behaviours"),
    "behaviours as object": ("/behaviours", {"behaviours": BEHAVIOUR}, 422, "behaviours"),
    "no user": ("/behaviours", {"behaviours": [{"item_id": "i1", "ts": NOW_MS}]}, 422, "behaviours.0.user_id"),
    "second one bad": ("/behaviours", {"behaviours": [BEHAVIOUR, {**BEHAVIOUR, "ts": "1"}]}, 422, "behaviours.1.ts"),
    "time negative": ("/behaviours", {"behaviours": [{**BEHAVIOUR, "ts": -1}]}, 422, "behaviours.0.ts"),
    "time huge": ("/behaviours", {"behaviours": [{**BEHAVIOUR, "ts": MAX_TIME}]}, 422, "behaviours.0.ts"),
    "time in seconds": ("/behaviours", {"behaviours": [{**BEHAVIOUR, "ts": NOW_MS // 1000}]}, 422, "behaviours.0.ts"),
    "blank after user": ("/behaviours", {"behaviours": [{**BEHAVIOUR, "user_id": "u "}]}, 422, "behaviours.0.user_id"),
    "blank before item": ("/behaviours", {"behaviours": [{**BEHAVIOUR, "item_id": " i"}]}, 422, "behaviours.0.item_id"),
    "feedback in seconds": (
        "/feedback", {"feedback": [{**BEHAVIOUR, "action": "play", "ts": NOW_MS // 1000}]}, 422, "feedback.0.ts"
    ),
    "time true": ("/behaviours", {"behaviours": [{**BEHAVIOUR, "ts": True}]}, 422, "behaviours.0.ts"),
    "NUL in user": ("/behaviours", {"behaviours": [{**BEHAVIOUR, "user_id": "\0"}]}, 422, "behaviours.0.user_id"),
    "CR in item": ("/behaviours", {"behaviours": [{**BEHAVIOUR, "item_id": "\r"}]}, 422, "behaviours.0.item_id"),
    "action of another kind": ("/behaviours", {"behaviours": [{**BEHAVIOUR, "action": 1}]}, 422, "behaviours.0.action"),
    "unknown field": ("/behaviours", {"behaviours": [{**BEHAVIOUR, "x": 1}]}, 422, "behaviours.0.x"),
    "unknown field at the top": ("/behaviours", {"behaviours": [BEHAVIOUR], "x": 1}, 422, "x"),
    "0 feedback": ("/feedback", {"feedback": []}, 422, "feedback"),
    "1,001 feedback": ("/feedback", {"feedback": [{**BEHAVIOUR, "action": "play"}] * 1_001}, 413, "feedback"),
    "feedback without action": ("/feedback", {"feedback": [BEHAVIOUR]}, 422, "feedback.0.action"),
    "feedback, unknown action": ("/feedback", {"feedback": [{**BEHAVIOUR, "action": "x"}]}, 422, "feedback.0.action"),
    "feedback with bad request id": (
        "/feedback", {"feedback": [{**BEHAVIOUR, "action": "play", "request_id": "\n"}]}, 422, "feedback"
    ),
    "negative play time": ("/feedback", {"feedback": [EVENT, {**EVENT, "play_ms": -1}]}, 422, "feedback.1.play_ms"),
    "negative duration": ("/feedback", {"feedback": [{**EVENT, "duration_ms": -1}]}, 422, "feedback.0.duration_ms"),
    "time zone too far": ("/feedback", {"feedback": [{**EVENT, "tz_offset": 841}]}, 422, "feedback.0.tz_offset"),
    "no view": ("/feedback", {"feedback": [EVENT, _without(EVENT, "view_id")]}, 422, "feedback.1.view_id"),
    "no item": ("/feedback", {"feedback": [_without(EVENT, "item_id")]}, 422, "feedback.0.item_id"),
    "no play time": ("/feedback", {"feedback": [{**EVENT, "type": "play_end"}]}, 422, "feedback.0.play_ms"),
    "followed no one": ("/feedback", {"feedback": [{"user_id": "u1", "type": "follow"}]}, 422, "feedback.0.author_id"),
    "no user with a type": ("/feedback", {"feedback": [_without(EVENT, "user_id")]}, 422, "feedback.0.user_id"),
    "unknown type": ("/feedback", {"feedback": [{**EVENT, "type": "x"}]}, 422, "feedback.0.type"),
    "type of another kind": ("/feedback", {"feedback": [{**EVENT, "type": ["like"]}]}, 422, "feedback.0.type"),
    "type and action": ("/feedback", {"feedback": [{**EVENT, "action": "play"}]}, 422, "feedback.0.action"),
    "a session hint": ("/feedback", {"feedback": [{**EVENT, "session_hint": "1"}]}, 422, "feedback.0.session_hint"),
    "new field with an action": (
        "/feedback", {"feedback": [{**BEHAVIOUR, "action": "play", "event_id": "1"}]}, 422, "feedback.0.event_id"
    ),
    "blank in event id": ("/feedback", {"feedback": [EVENT, {**EVENT, "event_id": "1 "}]}, 422, "feedback.1.event_id"),
    "NUL in device": ("/feedback", {"feedback": [EVENT, {**EVENT, "device_id": "\0"}]}, 422, "feedback.1.device_id"),
    "seconds with a type": ("/feedback", {"feedback": [{**EVENT, "ts": NOW_MS // 1000}]}, 422, "feedback.0.ts"),
    "feedback of text": ("/feedback", {"feedback": ["x"]}, 422, "feedback.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
async def test_bad_write_gets_its_exact_answer_and_stores_nothing(edge: Edge, name: str) -> None:
    route, body, status, field = WRITES[name]
    async with edge.client() as client:
        answer = await client.post(route, json=body)
    assert answer.status_code == status, answer.text
    assert ErrorResponse.model_validate_json(answer.content).error.field == field
    assert edge.store.users == {}
    assert edge.feedback.taken == []
