"""Raw bytes on a socket: what is answered, what is refused and how, and that every wait has an end."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.middleware import bucket_headers
from service.protocol import Guard, GuardedProtocol
from service.schemas import ErrorResponse
from service.settings import HttpSettings, LimitsSettings, Settings
from tests.fakes import Edge
from tests.raw_http import RawAnswer, RawConnection

pytestmark = pytest.mark.anyio

BODY = b'{"user_id":"u1","candidates":["i1"]}'
HOST = b"Host: edge\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n"


def post(*lines: bytes, body: bytes = BODY) -> bytes:
    """A ranking request with these header lines, its length unless one of them says how long it is."""
    given = b"".join(line + b"\r\n" for line in lines)
    length = (
        b""
        if b"ontent-" in given.replace(b"Content-Type", b"") or b"ransfer" in given
        else b"Content-Length: %d\r\n" % len(body)
    )
    return b"POST /rank HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n" + length + given + b"\r\n" + body


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Port:
    """A port with the protocol behind it, and fakes behind that."""

    def __init__(self, edge: Edge, number: int, state: ServerState) -> None:
        self.edge, self.number, self.state = edge, number, state

    async def connect(self) -> RawConnection:
        return await RawConnection.open(self.number)

    async def until(self, is_so: Any) -> None:
        async with asyncio.timeout(10):
            while not is_so():  # noqa: ASYNC110
                await asyncio.sleep(0)

    def count(self, name: str, labels: str) -> float:
        return self.edge.samples(name).get(labels, 0)


@asynccontextmanager
async def serving(edge: Edge, **http: int) -> AsyncIterator[Port]:
    """Serve on a free port; waits are 30 s unless given in ms."""
    waits = {"header_timeout_ms": 30_000, "body_timeout_ms": 30_000, "write_timeout_ms": 30_000}
    settings = Settings(http=HttpSettings(**{**waits, **http}), limits=edge.settings.limits)
    guard = Guard(
        settings.http,
        settings.limits,
        edge.metrics,
        lambda: bucket_headers(edge.runtime.undecided("error"), show_bucket=True),
    )
    config = uvicorn.Config(
        edge.app, http=functools.partial(GuardedProtocol, guard), ws="none", lifespan="off", log_config=None,  # type: ignore[arg-type]
        access_log=False, timeout_keep_alive=30,
    )  # fmt: skip
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: GuardedProtocol(guard, config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    try:
        yield Port(edge, server.sockets[0].getsockname()[1], state)
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        if state.tasks:
            await asyncio.wait(state.tasks)


@pytest.fixture(scope="module")
def _edge() -> Edge:
    return Edge()


@pytest.fixture
def edge(_edge: Edge) -> Edge:
    _edge.reset()
    return _edge


def check_refusal(answer: RawAnswer | None, status: int) -> None:
    assert answer is not None
    assert answer.status == status, answer
    [bucket] = answer.header(b"x-ab-bucket")
    assert bucket == b"rank=none;r=error"
    [request_id] = answer.header(b"x-request-id")
    error = ErrorResponse.model_validate_json(answer.body).error
    assert error.request_id == request_id.decode()
    assert answer.header(b"connection") == [b"close"]
    assert len(answer.body) <= 512


MALFORMED: dict[str, tuple[bytes, int]] = {
    "no HTTP at all": (b"GARBAGE\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/3.7": (b"GET / HTTP/3.7\r\n" + HOST + b"\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, 400),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", 400),
    "Redis": (b"*1\r\n$4\r\nPING\r\n", 400),
    "lower case method": (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "unknown method": (b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "no Host": (b"GET /info HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET /info HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "absolute target": (b"GET http://edge/info HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "authority target": (b"CONNECT edge:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "asterisk target": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "no target": (b"GET  HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "blank in target": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "NUL in target": (b"GET /a\x00 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "raw UTF-8 in target": ("GET /é HTTP/1.1\r\n".encode() + HOST + b"\r\n", 400),
    "NUL in a header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", 400),
    "0x01 in a header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x01b\r\n\r\n", 400),
    "DEL in a header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x7fb\r\n\r\n", 400),
    "bare CR in a header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n", 400),
    "blank before the colon": (b"GET / HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n", 400),
    "header without a name": (b"GET / HTTP/1.1\r\n" + HOST + b": a\r\n\r\n", 400),
    "header without a colon": (b"GET / HTTP/1.1\r\n" + HOST + b"Xa\r\n\r\n", 400),
    "folded header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", 400),
    "blank first header": (b"GET / HTTP/1.1\r\n " + HOST + b"\r\n", 400),
    "length and chunks": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
    "chunks and length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 5"), 400),
    "two lengths": (post(b"Content-Length: 36", b"Content-Length: 37"), 400),
    "two equal lengths": (post(b"Content-Length: 36", b"Content-Length: 36"), 400),
    "list of lengths": (post(b"Content-Length: 36, 36"), 400),
    "negative length": (post(b"Content-Length: -1"), 400),
    "signed length": (post(b"Content-Length: +36"), 400),
    "hexadecimal length": (post(b"Content-Length: 0x24"), 400),
    "length with a blank": (post(b"Content-Length: 3 6"), 400),
    "empty length": (post(b"Content-Length: "), 400),
    "length beyond 64 bits": (post(b"Content-Length: 99999999999999999999"), 400),
    "unknown transfer encoding": (post(b"Transfer-Encoding: gzip"), 400),
    "chunked not last": (post(b"Transfer-Encoding: chunked, gzip"), 400),
    "chunked look-alike": (post(b"Transfer-Encoding: xchunked"), 400),
    "chunked twice": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=chunked(BODY)), 400),
    "chunk size no number": (post(b"Transfer-Encoding: chunked", body=b"zz\r\nab\r\n0\r\n\r\n"), 400),
    "chunk size negative": (post(b"Transfer-Encoding: chunked", body=b"-1\r\nab\r\n0\r\n\r\n"), 400),
    "chunk size beyond 64 bits": (post(b"Transfer-Encoding: chunked", body=b"fffffffffffffffff\r\n"), 400),
    "chunk without its end": (post(b"Transfer-Encoding: chunked", body=b"2\r\nabX0\r\n\r\n"), 400),
    "target of 5 KiB": (b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
    "65 header lines": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 64 + b"\r\n", 431),
    "20,000 header lines": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 20_000 + b"\r\n", 431),
    "a header of 64 KiB": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 65_536 + b"\r\n\r\n", 431),
    "a header of 8 MiB": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 2**23 + b"\r\n\r\n", 431),
    "a header name of 64 KiB": (b"GET / HTTP/1.1\r\n" + HOST + b"a" * 65_536 + b": x\r\n\r\n", 431),
    "headers without an end": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 20_000, 431),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_bytes_that_are_no_request_are_refused_and_the_connection_closed(edge: Edge, name: str) -> None:
    data, status = MALFORMED[name]
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(data)
        answer = await connection.answer()
        if answer is not None and answer.header(b"x-ab-bucket") == [b"rank=none;r=error"]:
            check_refusal(answer, status)
        assert answer is not None
        assert answer.status == status
        assert await connection.ends()
        await connection.close()
        assert (await probe(port)).status == 200


async def probe(port: Port) -> RawAnswer:
    connection = await port.connect()
    connection.send(LIVE)
    answer = await connection.answer()
    await connection.close()
    assert answer is not None
    return answer


SERVED: dict[str, tuple[bytes, list[int]]] = {
    "plain": (post(), [200]),
    "line breaks before the request": (b"\r\n\r\n" + LIVE, [200]),
    "chunks": (post(b"Transfer-Encoding: chunked", body=chunked(BODY[:7], BODY[7:])), [200]),
    "chunk extensions": (post(b"Transfer-Encoding: chunked", body=b"24;a=b\r\n" + BODY + b"\r\n0\r\n\r\n"), [200]),
    "trailers": (post(b"Transfer-Encoding: chunked", body=b"24\r\n" + BODY + b"\r\n0\r\nX: y\r\n\r\n"), [200]),
    "one byte a chunk": (post(b"Transfer-Encoding: chunked", body=chunked(*map(bytes, zip(BODY)))), [200]),
    "obs-text in a header": (b"GET /info HTTP/1.1\r\n" + HOST + b"X-Request-Id: \xff\xfe\r\n\r\n", [200]),
    "tab in a header": (b"GET /info HTTP/1.1\r\n" + HOST + b"X-Request-Id: a\tb\r\n\r\n", [200]),
    "empty header": (b"GET /info HTTP/1.1\r\n" + HOST + b"X-Request-Id:\r\n\r\n", [200]),
    "percent-encoded line break": (b"GET /info%0d%0aX-Evil:1 HTTP/1.1\r\n" + HOST + b"\r\n", [404]),
    "query and fragment": (b"GET /info?a=b#c HTTP/1.1\r\n" + HOST + b"\r\n", [200]),
    "upgrade to h2c": (post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: x"), [200]),
    "upgrade to WebSocket": (
        b"GET /info HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n",
        [200],
    ),
    "two requests in one segment": (LIVE + post(), [200, 200]),
    "a request behind an upgrade": (post(b"Connection: Upgrade", b"Upgrade: h2c") + LIVE, [200, 200]),
    "a hundred requests in one segment": (LIVE * 100, [200] * 100),
    "64 header lines": (b"GET /info HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 63 + b"\r\n", [200]),
    "headers of 16,000 bytes": (b"GET /info HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 16_000 + b"\r\n\r\n", [200]),
    "body on a GET": (b"GET /info HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc", [200]),
    "TRACE": (b"TRACE /info HTTP/1.1\r\n" + HOST + b"\r\n", [405]),
    "refused by its type, body and all": (
        b"POST /rank HTTP/1.1\r\n" + HOST + b"Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc",
        [415],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SERVED)
async def test_unusual_requests_are_served_in_order_over_a_connection_that_stays(edge: Edge, name: str) -> None:
    data, statuses = SERVED[name]
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(data)
        answers = [await connection.answer() for _ in statuses]
        assert [answer.status for answer in answers if answer is not None] == statuses
        assert all(len(answer.header(b"x-ab-bucket")) == 1 for answer in answers if answer is not None)
        connection.send(LIVE)
        last = await connection.answer()
        assert last is not None
        assert last.status == 200
        await connection.close()


@pytest.mark.parametrize("lines", [b"", b"Connection: keep-alive\r\n"])
async def test_http_1_0_is_answered_and_closed(edge: Edge, lines: bytes) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(b"GET /info HTTP/1.0\r\n" + lines + b"\r\n")
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 200
        assert await connection.ends()
        await connection.close()


async def test_an_answer_under_way_goes_before_the_refusal_of_what_follows(edge: Edge) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(LIVE + b"GARBAGE\r\n\r\n")
        first, second = await connection.answer(), await connection.answer()
        assert first is not None
        assert first.status == 200
        check_refusal(second, 400)
        assert await connection.ends()
        await connection.close()


async def test_headers_that_do_not_arrive_are_refused_in_time(edge: Edge) -> None:
    async with serving(edge, header_timeout_ms=30) as port:
        connections = [await port.connect() for _ in range(50)]
        for connection in connections:
            connection.send(b"GET /info HTTP/1.1\r\nHost: ed")
        for connection in connections:
            check_refusal(await connection.answer(), 408)
            assert await connection.ends()
            await connection.close()
        assert port.count("ranker_connections_refused_total", '{reason="slow_head"}') >= 50
        await port.until(lambda: not port.state.connections)


async def test_headers_that_trickle_are_refused_in_time(edge: Edge) -> None:
    async with serving(edge, header_timeout_ms=50) as port:
        connection = await port.connect()

        async def trickle() -> None:
            while True:
                connection.send(b"X")
                await asyncio.sleep(0.005)

        connection.send(b"GET /info HTTP/1.1\r\nX: ")
        task = asyncio.create_task(trickle())
        check_refusal(await connection.answer(), 408)
        task.cancel()
        await connection.close()


async def test_a_connection_that_says_nothing_is_closed_without_a_word(edge: Edge) -> None:
    async with serving(edge, header_timeout_ms=30) as port:
        connection = await port.connect()
        assert await connection.ends()
        await connection.close()


@pytest.mark.parametrize("start", [b"Content-Length: 36\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"])
async def test_a_body_that_does_not_arrive_is_refused_in_time_and_counted_once(edge: Edge, start: bytes) -> None:
    async with serving(edge, body_timeout_ms=50) as port:
        before = port.count("ranker_requests_total", '{route="/rank",status="408",variant="none"}')
        connection = await port.connect()
        connection.send(b"POST /rank HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST + start)
        check_refusal(await connection.answer(), 408)
        assert await connection.ends()
        await connection.close()
        await port.until(lambda: not port.state.tasks)
        assert port.count("ranker_requests_total", '{route="/rank",status="408",variant="none"}') == before + 1
        assert edge.samples("ranker_inflight_requests") == {"": 0}


async def test_a_body_refused_early_that_never_ends_is_cut_off(edge: Edge) -> None:
    async with serving(edge, body_timeout_ms=50) as port:
        connection = await port.connect()
        connection.send(b"POST /nothing HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\nabc")
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 404
        assert await connection.ends()
        await connection.close()
        await port.until(lambda: not port.state.connections)


@pytest.mark.parametrize("framing", ["declared", "chunked"])
async def test_ten_megabytes_are_refused_early_and_the_refusal_arrives(edge: Edge, framing: str) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        head = b"POST /rank HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
        piece = b" " * 1_000_000
        if framing == "declared":
            connection.send(head + b"Content-Length: 10000000\r\n\r\n")
        else:
            connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
            piece = b"%x\r\n%s\r\n" % (len(piece), piece)
        for _ in range(10):
            connection.send(piece)
            await connection.writer.drain()
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 413
        assert answer.header(b"connection") == [b"close"]
        assert len(answer.header(b"x-ab-bucket")) == 1
        await connection.close()
        await port.until(lambda: not port.state.connections)


async def test_a_gigabyte_that_is_announced_is_refused_before_it_is_sent(edge: Edge) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(post(b"Content-Length: 1000000000", b"Expect: 100-continue", body=b""))
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 413
        await connection.close()


async def test_a_caller_who_expects_to_be_asked_is_asked(edge: Edge) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(post(b"Content-Length: 36", b"Expect: 100-continue", body=b""))
        asked = await connection.answer()
        assert asked is not None
        assert asked.status == 100
        connection.send(BODY)
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 200
        await connection.close()


async def test_a_caller_who_hangs_up_is_worked_for_no_longer(edge: Edge) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def never(*_: object) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    edge.ranker.rank = never  # type: ignore[method-assign]
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(post())
        await begun.wait()
        await connection.close()
        async with asyncio.timeout(10):
            await ended.wait()
        await port.until(lambda: not port.state.tasks)
        assert edge.samples("ranker_inflight_requests") == {"": 0}


async def test_one_connection_too_many_is_refused_and_room_is_made_by_leaving(edge: Edge) -> None:
    async with serving(edge, max_connections=2) as port:
        kept = [await port.connect() for _ in range(2)]
        await port.until(lambda: len(port.state.connections) == 2)
        surplus = await port.connect()
        check_refusal(await surplus.answer(), 503)
        assert await surplus.ends()
        await surplus.close()
        kept[0].send(LIVE)
        answer = await kept[0].answer()
        assert answer is not None
        assert answer.status == 200
        await kept[1].close()
        await port.until(lambda: len(port.state.connections) == 1)
        assert (await probe(port)).status == 200
        await kept[0].close()


async def test_idle_connections_are_counted(edge: Edge) -> None:
    async with serving(edge) as port:
        connections = [await port.connect() for _ in range(5)]
        await port.until(lambda: edge.samples("ranker_connections") == {"": 5})
        for connection in connections:
            await connection.close()
        await port.until(lambda: edge.samples("ranker_connections") == {"": 0})


async def test_a_caller_who_does_not_read_is_cut_off() -> None:
    edge = Edge(Settings(limits=LimitsSettings(max_candidates=50_000)))
    candidates = [f"item-{number:020}" for number in range(20_000)]
    body = json.dumps({"user_id": "u1", "candidates": candidates}).encode()
    async with serving(edge, write_timeout_ms=50) as port:
        connection = await port.connect()
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(20):
            connection.send(post(body=body))
        await port.until(lambda: port.count("ranker_connections_refused_total", '{reason="slow_reader"}') == 1)
        await port.until(lambda: not port.state.connections)
        connection.writer.transport.abort()
        await connection.close()


async def test_while_draining_a_kept_connection_is_answered_and_closed(edge: Edge) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(LIVE)
        assert await connection.answer() is not None
        edge.runtime.is_draining = True
        connection.send(post())
        answer = await connection.answer()
        edge.runtime.is_draining = False
        assert answer is not None
        assert (answer.status, answer.header(b"connection")) == (200, [b"close"])
        assert await connection.ends()
        await connection.close()
