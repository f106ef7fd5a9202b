"""Questions that the page refuses."""

from __future__ import annotations

import pytest

from service.page.routes import MAX_BODY_BYTES
from tests.support.served_page import Served

pytestmark = pytest.mark.anyio


async def test_nothing_served_yet_is_not_ready(served: Served) -> None:
    served.snapshot = None
    status, error = await served.refusal(b'{"user_id": "u1"}')
    assert (status, error["code"]) == (503, "not_ready")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"user_id": ""}', "user_id"),
        (b'{"user_id": 1}', "user_id"),
        (b'{"user_id": "%s"}' % (b"x" * 129), "user_id"),
        ('{"user_id": "%s"}' % ("é" * 65), "user_id"),
        (b'{"user_id": "a\\u0000b"}', "user_id"),
        (b'{"seed": 1}', "user_id"),
        (b'{"user_id": "u", "seed": -1}', "seed"),
        (b'{"user_id": "u", "seed": 2147483648}', "seed"),
        (b'{"user_id": "u", "seed": 1.5}', "seed"),
        (b'{"user_id": "u", "seed": NaN}', "seed"),
        (b'{"user_id": "u", "count": 0}', "count"),
        (b'{"user_id": "u", "count": 501}', "count"),
        (b'{"user_id": "u", "count": true}', "count"),
        (b'{"user_id": "u", "more": 1}', "more"),
        (b'{"user_id": "u", "extra": "i1"}', "extra"),
        (b'{"user_id": "u", "extra": ["a\\u0000b"]}', "extra.0"),
        (b'{"user_id": "u", "extra": [%s]}' % b",".join([b'"i"'] * 21), "extra"),
    ],
)
async def test_question_that_cannot_be_used_names_its_field(served: Served, body: bytes | str, field: str) -> None:
    status, error = await served.refusal(body.encode() if isinstance(body, str) else body)
    assert (status, error["code"], error["field"]) == (422, "invalid_request", field)
    assert served.ranker.asked == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"user_id": "\\ud800"}'])
async def test_body_that_is_no_json_is_malformed(served: Served, body: bytes) -> None:
    status, error = await served.refusal(body)
    assert (status, error["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("media", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_form_of_another_site_cannot_ask(served: Served, media: str) -> None:
    status, _ = await served.refusal(b'{"user_id": "u1"}', {"content-type": media})
    assert status == 415


async def test_question_longer_than_any_is_too_large(served: Served) -> None:
    status, error = await served.refusal(b'{"user_id": "u1"}' + b" " * MAX_BODY_BYTES)
    assert (status, error["code"]) == (413, "too_large")
