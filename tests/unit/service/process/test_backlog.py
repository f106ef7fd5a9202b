"""Connections that wait in the kernel are accepted in a few passes of the event loop, not in one pass each."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import uvloop

from service.process.backlog import AT_ONCE, Backlog
from service.process.port import listen

CALLERS = 200


async def _passes(is_many: bool) -> int:
    """Return how many passes of the loop it takes to accept callers that have connected before."""
    loop, made = asyncio.get_running_loop(), 0

    def protocol() -> asyncio.Protocol:
        nonlocal made
        made += 1
        if is_many:
            backlog.accept()
        return asyncio.Protocol()

    async def connect(connection: socket.socket) -> None:
        transport, _ = await loop.connect_accepted_socket(protocol, connection)
        opened.callback(transport.close)

    with ExitStack() as opened:
        listener = opened.enter_context(listen("127.0.0.1", 0))
        backlog = Backlog(listener, connect)
        server = await loop.create_server(protocol, sock=listener, backlog=CALLERS)
        opened.callback(server.close)
        for _ in range(CALLERS):
            opened.enter_context(socket.create_connection(listener.getsockname()))
        passes = 0
        while made < CALLERS:
            await asyncio.sleep(0)
            passes += 1
        return passes


def test_callers_that_wait_are_accepted_many_at_a_time() -> None:
    assert uvloop.run(_passes(is_many=False)) >= CALLERS  # libuv's own way
    assert uvloop.run(_passes(is_many=True)) < 4 * CALLERS / AT_ONCE
