"""A port with the guarded protocol behind it and fakes behind that, and requests to send to it as raw bytes."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from service.connection.protocol import Guard, GuardedProtocol
from service.http.answers import ErrorResponse
from service.http.endings import bucket_headers
from service.http.keyed_lane import rank_lane
from service.settings.http import HttpSettings
from service.settings.root import Settings
from tests.support.fakes import Edge
from tests.support.raw_http import RawAnswer, RawConnection

BODY = b'{"user_id":"u1","candidates":["i1"]}'
HOST = b"Host: edge\r\n"
HAS_SHORT_WAY = True  # whether rankings may go around ASGI, as they do in the service; tests try both
LIVE = b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n"


def post(*lines: bytes, body: bytes = BODY) -> bytes:
    """A ranking request with these header lines, with its length unless one of them has it."""
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

    async def connect_unread(self) -> RawConnection:
        """Connect a caller who does not read, and for whom the kernel keeps next to nothing."""
        connection = await RawConnection.open(self.number, receive_buffer=4_096)
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        return connection

    async def until(self, is_so: Any) -> None:
        async with asyncio.timeout(60):
            while not is_so():  # noqa: ASYNC110
                await asyncio.sleep(0)

    def count(self, name: str, labels: str) -> float:
        return self.edge.samples(name).get(labels, 0)


@asynccontextmanager
async def serving(
    edge: Edge, *, send_buffer: int = 262_144, makes_room: bool = False, **http: int
) -> AsyncIterator[Port]:
    """Serve on a free port; waits are 30 s unless given in ms."""
    waits = {"header_timeout_ms": 30_000, "body_timeout_ms": 30_000, "write_timeout_ms": 30_000}
    settings = Settings(http=HttpSettings(**{**waits, **http}), limits=edge.settings.limits)
    guard = Guard(
        settings.http,
        settings.limits,
        edge.metrics,
        lambda: bucket_headers(edge.runtime.undecided("error"), show_bucket=True),
        rank_lane(edge.runtime) if HAS_SHORT_WAY else None,
        makes_room=makes_room,
    )
    config = uvicorn.Config(
        edge.app, http=functools.partial(GuardedProtocol, guard), ws="none", lifespan="off", log_config=None,  # type: ignore[arg-type]
        access_log=False, timeout_keep_alive=30,
    )  # fmt: skip
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    server = await loop.create_server(
        lambda: GuardedProtocol(guard, config=config, server_state=state, app_state={}), sock=listener
    )
    try:
        yield Port(edge, server.sockets[0].getsockname()[1], state)
    finally:
        server.close()
        for _ in range(10):  # a connection that was accepted a moment ago is made some turns of the loop later
            for connection in list(state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)
        if state.tasks:
            await asyncio.wait(state.tasks)


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


async def probe(port: Port) -> RawAnswer:
    connection = await port.connect()
    connection.send(LIVE)
    answer = await connection.answer()
    await connection.close()
    assert answer is not None
    return answer
