"""Connections that wait in the kernel: accepted many at a time.

libuv accepts one connection in each pass of the event loop. Under overload a pass takes 10 to 20 ms, so 1,000 new
callers, such as all of them after a restart, would wait up to 20 s for their first answer (ADR 0306).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

AT_ONCE: Final = 64  # in one pass: about 2 ms


class Backlog:
    """Accepts further connections after the event loop has accepted one.

    Args:
        listener: not blocking.
        connect: makes a connection of an accepted socket.
    """

    def __init__(self, listener: socket.socket, connect: Callable[[socket.socket], Awaitable[object]]) -> None:
        self._listener, self._connect = listener, connect
        self._connecting: set[asyncio.Future[object]] = set()

    def accept(self) -> None:
        """Accept what waits, at most so many; to be called for each connection that was accepted."""
        if self._connecting:  # in this pass already, or called for one of them
            return
        with suppress(OSError):  # none waits; or no descriptor is left, which libuv handles
            for _ in range(AT_ONCE):
                self._begin(self._listener.accept()[0])

    def _begin(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        task = asyncio.ensure_future(self._connect(accepted))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
