"""JSON that readers understand differently, on every route that reads a body: a named error or the right answer.

Nesting, keys that are there twice, numbers and texts at the edge of JSON and beyond it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from service.http.answers import ErrorResponse
from tests.support.redis_server import RedisServer
from tests.support.service_process import PlainService

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx, pytest.mark.slow]

NOW: Final = 1_700_000_000_000
BEHAVIOUR: Final = {"user_id": "u1", "item_id": "i1", "ts": NOW, "action": "click", "play_ms": 5, "value": 2.5}
RECENT: Final = {name: value for name, value in BEHAVIOUR.items() if name != "user_id"}
RANK: Final[dict[str, Any]] = {
    "user_id": "u1", "candidates": ["i1", "i2"], "limit": 5, "request_time": NOW, "explain": True, "seen": "keep",
    "recent": [RECENT], "attributes": {"age": 5, "name": "x", "share": 0.5}, "context": {"device": "ios", "version": 3},
}  # fmt: skip
EVENT: Final = {
    "user_id": "u1", "type": "play_end", "item_id": "i1", "view_id": "v", "play_ms": 5, "duration_ms": 9, "value": 1.5,
    "tz_offset": 60, "ts": NOW, "event_id": "e",
}  # fmt: skip
GOOD: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "/rank": (RANK, {"user_id": "u1", "candidates": ["i1"], "features": {"i1": {"genre": ["a", 1], "year": 1.5}}}),
    "/rank/batch": ({"shown": False, "rankings": [RANK, RANK]},),
    "/behaviours": ({"behaviours": [BEHAVIOUR]},),
    "/feedback": ({"feedback": [EVENT]}, {"feedback": [BEHAVIOUR | {"action": "play"}]}),
    "/items": ({"items": [{"item_id": "i1", "features": {"genre": ["a", 1], "year": 1.5}}]},),
    "/page/history": ({"user_id": "u1"},),
    "/page/compare": ({"user_id": "u1", "seed": 1, "count": 5, "extra": ["i1"]},),
    "/page/click": ({"user_id": "u1", "item_id": "i1"},),
}
LITERALS: Final = (
    "NaN", "-NaN", "nan", "Infinity", "-Infinity", "inf", "1e999", "-1e999", "1e-999", "-0", "-0.0", "0e5", "-0e-5",
    "9" * 5_000, "-" + "9" * 400, "0." + "9" * 5_000, "9223372036854775808", "18446744073709551616", "2147483648",
    "1.0", "1E3", "5e-324", "00", "01", "+1", ".5", "1.", "0x10", "1_000", "true", "null", '"\\ud800"', '"\\udc00"',
    '"\\udc00\\ud800"', '"\\ud83c\\udfac"', '"\\u0000"', '"\ufeff"', '"\\x41"', "'a'", "[]", "{}", "[[]]", "--1", "1e",
)  # fmt: skip
PLACE: Final = "\u2603here\u2603"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainService]:
    redis = RedisServer().start()
    settings = {"HTTP__BEHAVIOURS_ENABLED": "true", "PAGE__ENABLED": "true"}
    service = PlainService(tmp_path_factory.mktemp("json"), redis.url, **settings)
    yield service.start()
    assert "request_failed" not in service.log()
    service.close()
    redis.close()


@pytest.fixture(scope="module")
def client(service: PlainService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, headers={"content-type": "application/json"}) as client:
        yield client


def check(answer: httpx.Response, what: str) -> None:
    """Check that it is a good answer or a refusal that names its reason."""
    assert answer.status_code in {200, 202, 400, 413, 422}, (what, answer.status_code, answer.text[:200])
    assert len(answer.content) < 20_000, what
    if answer.status_code >= 400:
        error = ErrorResponse.model_validate_json(answer.content).error
        assert error.code in {"invalid_request", "too_large"}, what
        assert error.message, what
    for result in answer.json().get("results", ()):
        assert result["status"] in {200, 400, 413, 422}, (what, result)


def places(good: Any) -> Iterator[Any]:
    """Yield the document with a mark in the place of each of its values."""
    yield PLACE
    if isinstance(good, dict):
        for name, value in good.items():
            yield from (good | {name: marked} for marked in places(value))
    elif isinstance(good, list):
        for number, value in enumerate(good):
            yield from ([*good[:number], marked, *good[number + 1 :]] for marked in places(value))


def bodies(path: str) -> Iterator[str]:
    """Yield bodies of a route with a mark in them."""
    for good in GOOD[path]:
        yield from (json.dumps(marked, ensure_ascii=False) for marked in places(good))


@pytest.mark.parametrize("path", GOOD)
def test_odd_numbers_and_texts_in_every_place_get_a_named_error_or_a_good_answer(
    client: httpx.Client, path: str
) -> None:
    for body in bodies(path):
        for literal in LITERALS:
            content = body.replace(f'"{PLACE}"', literal).encode()
            check(client.post(path, content=content), f"{literal[:40]} in {body}")


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("depth", [100, 10_000, 1_000_000])
def test_deep_nesting_in_every_place_is_refused(client: httpx.Client, path: str, depth: int) -> None:
    deep = ("[" * depth, "[" * (depth // 2) + "]" * (depth // 2), '{"a":' * (depth // 5), '[{"a":' * (depth // 8))
    for body in bodies(path):
        for nested in deep:
            content = body.replace(f'"{PLACE}"', nested).encode()
            answer = client.post(path, content=content)
            check(answer, f"{nested[:8]} {depth} in {body}")
            assert answer.status_code >= 400 or path == "/rank/batch", body
    for nested in deep:
        packed = gzip.compress(nested.encode())
        answer = client.post(path, content=packed, headers={"content-encoding": "gzip"})
        assert answer.status_code in {400, 413, 415, 422}
    assert client.get("/health/live").status_code == 200


def ranked(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return sorted(item["item_id"] for item in answer.json()["items"])


@pytest.mark.parametrize("more", ["", ',"features":{}', ',"attributes":{"a":1e1}', ',"limit":1,"limit":9'])
@pytest.mark.parametrize("first", ['["i3"]', "5", '["i3",7]', "[]", '["\\u0069\\u0033"]'])
def test_of_a_key_that_a_ranking_has_twice_the_last_counts(client: httpx.Client, first: str, more: str) -> None:
    """The fast decoder and the friendly validator agree, in one ranking and in many."""
    body = f'{{"user_id":"x","candidates":{first},"user_id":"u1","candidates":["i1","i2"]{more}}}'
    assert ranked(client.post("/rank", content=body.encode())) == ["i1", "i2"]
    assert client.post("/rank", content=body.replace('["i1","i2"]', "5").encode()).status_code == 422
    batch = f'{{"shown":true,"rankings":[5],"shown":false,"rankings":[{body}]}}'
    [result] = client.post("/rank/batch", content=batch.encode()).json()["results"]
    assert sorted(item["item_id"] for item in result["ranking"]["items"]) == ["i1", "i2"]


def test_of_a_key_that_other_bodies_have_twice_the_last_counts(client: httpx.Client) -> None:
    one, two = (
        '{"user_id":"first","item_id":"i1","ts":1}',
        f'{{"user_id":"no","item_id":"i2","ts":{NOW},"user_id":"twice"}}',
    )
    written = client.post("/behaviours", content=f'{{"behaviours":[{one}],"behaviours":[{two}]}}'.encode())
    assert written.json()["stored"] == 1, written.text
    assert len(client.get("/behaviours/twice").json()["behaviours"]) == 1
    assert not client.get("/behaviours/no").json()["behaviours"]
    like = '{"user_id":"u1","type":"like","item_id":"i1"}'
    sent = client.post("/feedback", content=f'{{"feedback":[],"feedback":[{like},{like}]}}'.encode())
    assert sent.json()["accepted"] == 2, sent.text
    item = '{"item_id":"","item_id":"n1","features":5,"features":{"genre":"a"}}'
    stored = client.post("/items", content=f'{{"items":7,"items":[{item}]}}'.encode())
    assert stored.json()["stored"] == 1, stored.text
    shown = client.post("/page/history", content=b'{"user_id":5,"user_id":"twice"}')
    assert shown.json()["user_id"] == "twice", shown.text


def test_minus_zero_and_a_subnormal_number_are_stored_as_zero(client: httpx.Client) -> None:
    for number, literal in enumerate(("-0.0", "5e-324", "0e5")):
        user = f"zero-{number}"
        body = f'{{"behaviours":[{{"user_id":"{user}","item_id":"i1","ts":{NOW},"play_ms":-0,"value":{literal}}}]}}'
        assert client.post("/behaviours", content=body.encode()).json()["stored"] == 1
        [stored] = client.get(f"/behaviours/{user}").json()["behaviours"]
        assert (stored.get("play_ms") or 0, stored.get("value") or 0) == (0, 0)
