"""Pages of other origins: which may call from a browser, and what their scripts may read."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.settings.http import HttpSettings
from service.settings.root import Settings
from tests.support.fakes import Edge

pytestmark = pytest.mark.anyio

FEED = "https://feed.example"
BODY = {"user_id": "u1", "candidates": ["i1"]}
ASK = {"Origin": FEED, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}


def edge(*origins: str) -> Edge:
    return Edge(Settings(http=HttpSettings(cors_origins=origins)))


@pytest.fixture(scope="module")
def open_edge() -> Edge:
    return edge(FEED, "http://localhost:3000")


@pytest.mark.parametrize("path", ["/rank", "/behaviours", "/feedback", "/info"])
async def test_a_browser_that_asks_for_an_allowed_page_is_told_yes(open_edge: Edge, path: str) -> None:
    async with open_edge.client() as client:
        answer = await client.options(path, headers=ASK)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers.get_list("access-control-allow-origin") == [FEED]
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert {"content-type", "content-encoding", "x-request-id", "x-deadline-ms", "x-ab-override", "traceparent"} == set(
        allowed
    )
    assert answer.headers["vary"] == "Origin"
    assert answer.headers["x-request-id"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("body", "status"), [(BODY, 200), ({}, 422), ({"user_id": "u1", "candidates": ["i"] * 2_001}, 413)]
)
async def test_scripts_of_an_allowed_page_may_read_answers_and_errors(
    open_edge: Edge, body: object, status: int
) -> None:
    async with open_edge.client() as client:
        answer = await client.post("/rank", json=body, headers={"Origin": FEED})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == FEED
    assert answer.headers["vary"] == "Origin"
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"X-AB-Bucket", "X-AB-Config", "X-Request-Id", "X-Model", "Server-Timing", "Retry-After"} <= set(exposed)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", FEED + ".evil.example", FEED + ":8443", "http://feed.example", "null", ""]
)
async def test_other_pages_are_told_nothing(open_edge: Edge, origin: str) -> None:
    async with open_edge.client() as client:
        asked = await client.options("/rank", headers={**ASK, "Origin": origin})
        answer = await client.post("/rank", json=BODY, headers={"Origin": origin})
    assert (asked.status_code, answer.status_code) == (405, 200)
    for one in (asked, answer):
        assert "access-control-allow-origin" not in one.headers
        assert one.headers["vary"] == "Origin"  # a cache must not give this answer to the page that is allowed


async def test_by_default_no_page_is_allowed() -> None:
    async with Edge().client() as client:
        asked = await client.options("/rank", headers=ASK)
        answer = await client.post("/rank", json=BODY, headers={"Origin": FEED})
    assert (asked.status_code, answer.status_code) == (405, 200)
    for one in (asked, answer):
        assert not [name for name in one.headers if name.startswith("access-control") or name == "vary"]


async def test_all_pages_can_be_allowed() -> None:
    async with edge("*").client() as client:
        asked = await client.options("/rank", headers=ASK)
        answer = await client.post("/rank", json=BODY, headers={"Origin": "https://any.example"})
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, "*")
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_question_without_a_method_is_an_ordinary_request(open_edge: Edge) -> None:
    async with open_edge.client() as client:
        assert (await client.options("/rank", headers={"Origin": FEED})).status_code == 405


@pytest.mark.parametrize(
    "origin",
    ["feed.example", "https://feed.example/", "https://feed.example/x", "ftp://feed.example", "https://Feed", ""],
)
def test_an_origin_that_no_browser_sends_is_refused_at_start(origin: str) -> None:
    with pytest.raises(ValidationError):
        HttpSettings(cors_origins=(origin,))
