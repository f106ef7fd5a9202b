"""The outermost layer: the parts of every answer, from any source."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import http_sf
import httpx
import pytest
import structlog
from starlette.types import Message, Receive

from service.ranking.answer import Ranking
from service.ranking.call import AwaitedCall
from service.settings.experiments import ExperimentsSettings
from service.settings.limits import LimitsSettings
from service.settings.logging import LoggingSettings
from service.settings.root import Settings
from tests.support.fakes import Edge

pytestmark = pytest.mark.anyio

BODY = {"user_id": "u1", "candidates": ["i1"]}
REQUESTS: list[tuple[str, str, Any, int]] = [
    ("POST", "/rank", BODY, 200),
    ("POST", "/rank", {"user_id": "u1"}, 422),
    ("POST", "/rank", None, 415),
    ("GET", "/rank", None, 405),
    ("DELETE", "/rank", None, 405),
    ("OPTIONS", "/rank", None, 405),
    ("HEAD", "/info", None, 200),
    ("HEAD", "/rank", None, 405),
    ("HEAD", "/nothing", None, 404),
    ("POST", "/rank/", BODY, 404),
    ("POST", "//rank", BODY, 404),
    ("GET", "/", None, 404),
    ("GET", "/nothing", None, 404),
    ("GET", "/%2e%2e/%2e%2e/etc/passwd", None, 404),
    ("GET", "/info", None, 200),
    ("GET", "/health/live", None, 200),
    ("GET", "/health/ready", None, 200),
    ("GET", "/metrics", None, 200),
    ("GET", "/docs", None, 200),
    ("GET", "/openapi.json", None, 200),
    ("POST", "/behaviours", {"behaviours": [{"user_id": "u", "item_id": "i", "ts": 1_700_000_000_000}]}, 200),
    ("POST", "/behaviours", {}, 422),
    ("POST", "/feedback", {"feedback": [{"user_id": "u", "item_id": "i", "action": "play"}]}, 202),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), REQUESTS)
async def test_every_answer_of_every_route_has_one_bucket_and_one_request_id(
    edge: Edge, method: str, path: str, body: Any, status: int
) -> None:
    async with edge.client() as client:
        answer = await client.request(method, path, json=body)
    assert answer.status_code == status
    [bucket] = answer.headers.get_list("x-ab-bucket")
    [request_id] = answer.headers.get_list("x-request-id")
    assert answer.headers["x-ab-config"]
    assert len(request_id) == 32
    [(layer, (value, parameters))] = http_sf.parse(bucket.encode(), tltype="dictionary").items()
    assert layer == "rank"
    assert str(value) == ("none" if status != 200 or path != "/rank" else str(value))
    reason = "split" if path == "/rank" and status == 200 else "error" if path == "/rank" else "not_ranked"
    assert str(parameters["r"]) == reason


@pytest.mark.parametrize("given", ["abc", "A" * 128, "01HX:7/_+=@.-z", "0"])
async def test_a_fit_request_id_is_repeated(edge: Edge, given: str) -> None:
    async with edge.client() as client:
        answer = await client.post("/rank", json=BODY, headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == given


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_no_unfit_byte_of_a_request_id_is_repeated(edge: Edge, place: int) -> None:
    fit = set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") | (
        set(b"._:+/=@-") if place else set()
    )
    async with edge.client() as client:
        for octet in range(256):
            given = bytearray(b"abc")
            given[place] = octet
            answer = await client.get("/health/live", headers=[(b"x-request-id", bytes(given))])
            repeated = answer.headers["x-request-id"].encode("latin-1") == bytes(given)
            assert repeated == (octet in fit), octet


@pytest.mark.parametrize("given", ["", "a" * 129, "é", "two words", "a\tb", "-x"])
async def test_an_unfit_request_id_is_replaced(edge: Edge, given: str) -> None:
    async with edge.client() as client:
        answer = await client.get("/health/live", headers=[(b"x-request-id", given.encode())])
    assert answer.headers["x-request-id"] != given
    assert len(answer.headers["x-request-id"]) == 32


async def test_of_several_request_ids_the_first_fit_one_counts(edge: Edge) -> None:
    async with edge.client() as client:
        given = [(b"x-request-id", value) for value in (b"un fit", b"one", b"two")]
        answer = await client.get("/health/live", headers=given)
    assert answer.headers.get_list("x-request-id") == ["one"]


async def test_a_bucket_that_a_client_sends_counts_for_nothing(edge: Edge) -> None:
    async with edge.client() as client:
        plain = await client.post("/rank", json=BODY)
        forged = await client.post("/rank", json=BODY, headers={"X-AB-Bucket": "rank=pyramid-vs-mgnm:forged;r=split"})
    assert forged.headers.get_list("x-ab-bucket") == plain.headers.get_list("x-ab-bucket")


TRACES = {
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": True,
    "00-00000000000000000000000000000000-00f067aa0ba902b7-01": False,
    "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01": False,
    "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": False,
    "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01": False,
    "nonsense": False,
}


@pytest.mark.parametrize(("given", "is_fit"), TRACES.items())
async def test_a_trace_is_passed_on_where_it_is_one(edge: Edge, given: str, is_fit: bool) -> None:
    async with edge.client() as client:
        answer = await client.get("/health/live", headers={"traceparent": given})
    assert answer.headers.get("traceparent") == (given if is_fit else None)


async def test_the_arm_bucket_can_be_hidden() -> None:
    edge = Edge(Settings(experiments=ExperimentsSettings(show_bucket=False)))
    async with edge.client() as client:
        answer = await client.post("/rank", json=BODY)
    assert ";b=" not in answer.headers["x-ab-bucket"]
    assert answer.headers["x-ab-bucket"].endswith(";r=split")


async def test_while_no_file_was_accepted_the_header_says_error(edge: Edge) -> None:
    edge.experiments.snapshot = None
    async with edge.client() as client:
        answer = await client.get("/info")
    assert answer.headers["x-ab-bucket"] == "none;r=error"


async def test_requests_are_counted_by_route_template_and_never_by_path() -> None:
    edge = Edge()
    async with edge.client() as client:
        for number in range(50):
            await client.get(f"/nothing/{number}")
            await client.request("GET", f"/info?x={number}")
        await client.post("/rank", json=BODY)
    counts = edge.samples("ranker_requests_total")
    assert counts['{route="none",status="404",variant="none"}'] == 50
    assert counts['{route="/info",status="200",variant="none"}'] == 50
    assert len(counts) == 3
    [ranked] = [series for series in counts if "/rank" in series]
    assert 'variant="pyramid-vs-mgnm:' in ranked
    assert edge.samples("ranker_inflight_requests") == {"": 0}


async def test_one_line_a_request_and_no_user_in_it() -> None:
    with structlog.testing.capture_logs() as lines:
        edge = Edge()
        async with edge.client() as client:
            await client.post("/rank", json={"user_id": "secret-user", "candidates": ["secret-item"]})
            await client.get("/health/live")
            await client.get("/metrics")
    [line] = lines
    assert line["event"] == "request"
    assert (line["route"], line["status"], line["model"]) == ("/rank", 200, line["model"])
    assert "secret" not in str(line)


async def test_the_access_line_can_be_switched_off() -> None:
    with structlog.testing.capture_logs() as lines:
        async with Edge(Settings(logging=LoggingSettings(access=False))).client() as client:
            await client.post("/rank", json=BODY)
    assert lines == []


async def test_a_ranking_too_many_is_refused_unparsed_and_without_a_line() -> None:
    edge = Edge(Settings(limits=LimitsSettings(max_inflight=1)))
    refused: list[httpx.Response] = []

    async with edge.client() as client:
        rank = edge.ranker.rank

        async def rank_slowly(asked: AwaitedCall) -> Ranking:
            refused.append(await client.post("/rank", content=b"no JSON"))
            return await rank(asked)

        edge.ranker.rank = rank_slowly  # type: ignore[method-assign]
        with structlog.testing.capture_logs() as lines:
            answer = await client.post("/rank", json=BODY)
    [late] = refused
    assert (answer.status_code, late.status_code, late.headers["retry-after"]) == (200, 429, "1")
    assert late.headers["x-ab-bucket"] == "rank=none;r=error"
    assert [line["status"] for line in lines] == [200]
    assert edge.samples("ranker_rejected_total")['{reason="overloaded"}'] == 1


async def test_who_sends_slowly_holds_no_place() -> None:
    edge = Edge(Settings(limits=LimitsSettings(max_inflight=1)))
    answers: list[int] = []

    async def receive() -> Message:
        async with edge.client() as client:
            answers.append((await client.post("/rank", json=BODY)).status_code)
        return {"type": "http.disconnect"}

    assert await call(edge, receive, [JSON_HEADER]) == []
    assert answers == [200]


# --- plain ASGI: what httpx cannot do


async def call(edge: Edge, messages: Sequence[Message] | Receive, headers: list[tuple[bytes, bytes]]) -> list[Message]:
    sent: list[Message] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/rank",
        "raw_path": b"/rank", "query_string": b"", "root_path": "", "scheme": "http", "headers": headers,
        "server": ("edge", 80), "client": ("caller", 1), "state": {},
    }  # fmt: skip
    pending = [] if callable(messages) else list(messages)

    async def receive() -> Message:
        return pending.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await edge.app(scope, messages if callable(messages) else receive, send)
    return sent


JSON_HEADER = (b"content-type", b"application/json")


async def test_a_caller_who_hangs_up_is_answered_nothing_and_counted(edge: Edge) -> None:
    before = edge.samples("ranker_requests_total")
    sent = await call(edge, [{"type": "http.disconnect"}], [JSON_HEADER])
    assert sent == []
    series = '{route="/rank",status="499",variant="none"}'
    assert edge.samples("ranker_requests_total")[series] == before.get(series, 0) + 1
    assert edge.samples("ranker_inflight_requests") == {"": 0}


@pytest.mark.parametrize("declared", [b"1000000000", b"9" * 40, b"-1", b"+5", b"1_0", b" 7"])
async def test_a_body_that_announces_itself_too_large_is_refused_unread(edge: Edge, declared: bytes) -> None:
    start, _ = await call(edge, [], [JSON_HEADER, (b"content-length", declared)])
    assert start["status"] == 413
    assert (b"connection", b"close") in start["headers"]


async def test_a_body_without_a_length_is_held_to_the_limit_only(edge: Edge) -> None:
    piece = {"type": "http.request", "body": b"x" * 600_000, "more_body": True}
    messages = [dict(piece) for _ in range(5)]
    start, _ = await call(edge, messages, [JSON_HEADER])
    assert start["status"] == 413


async def test_tiny_pieces_make_one_body(edge: Edge) -> None:
    body = b'{"user_id":"u1","candidates":["i1"]}'
    messages: list[Message] = [
        {"type": "http.request", "body": body[place : place + 1], "more_body": place < len(body) - 1}
        for place in range(len(body))
    ]
    start, _ = await call(edge, messages, [JSON_HEADER])
    assert start["status"] == 200


async def test_a_cancelled_request_is_refused_with_its_bucket_and_counted(edge: Edge) -> None:
    started = asyncio.Event()

    async def never(*_: object) -> Any:
        started.set()
        await asyncio.Event().wait()

    edge.ranker.rank = never  # type: ignore[method-assign]
    task = asyncio.create_task(
        call(edge, [{"type": "http.request", "body": b'{"user_id":"u1","candidates":["i1"]}'}], [JSON_HEADER])
    )
    await started.wait()
    task.cancel()
    start, _ = await task
    assert start["status"] == 503
    assert any(name == b"x-ab-bucket" and value.endswith(b"r=split") for name, value in start["headers"])
    assert edge.samples("ranker_inflight_requests") == {"": 0}


async def test_lifespan_passes_through(edge: Edge) -> None:
    async with edge.app.router.lifespan_context(edge.app):
        transport = httpx.ASGITransport(edge.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
            assert (await client.get("/health/live")).status_code == 200
