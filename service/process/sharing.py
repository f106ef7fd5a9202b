"""How workers share one listening socket: each takes a connection only while no other has fewer.

All workers wait on the same socket, so a connection that arrives wakes them all. Without a rule the first one awake
takes all waiting connections: with 32 kept connections, two workers had 31 and 2 of them. So each worker keeps the
number of its connections in memory that all share, and gives way for a moment while another one has fewer.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

_AWAY: Final = 1 << 62  # a worker that accepts nothing
_CELL_BYTES: Final = 8
_GIVE_WAY_SECONDS: Final = 0.001
_TIRED_SECONDS: Final = 1.0  # between tries while the process has no descriptor left
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = structlog.get_logger(__name__)


class Counts:
    """Connections of every worker, in memory that the workers share."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, 0)
        self._cells = memoryview(self._memory).cast("q")

    @classmethod
    def make(cls, workers: int) -> Counts:
        """Return counts for so many workers, of which none accepts."""
        with tempfile.TemporaryFile() as file:
            file.truncate(workers * _CELL_BYTES)
            made = cls(os.dup(file.fileno()))
        for worker in range(workers):
            made.leave(worker)
        return made

    def put(self, worker: int, connections: int) -> None:
        """Set the number of a worker's connections."""
        self._cells[worker] = connections

    def leave(self, worker: int) -> None:
        """Note that a worker accepts nothing: the others do not wait for it."""
        self._cells[worker] = _AWAY

    def has_most(self, worker: int) -> bool:
        """Return whether another worker that accepts has fewer connections."""
        return self._cells[worker] > min(self._cells)


class CountedConnections(set[Any]):  # Any: uvicorn's protocols
    """uvicorn's set of open connections, which writes down how many there are."""

    def __init__(self, counts: Counts, worker: int) -> None:
        super().__init__()
        self._counts, self._worker = counts, worker
        self.is_counted = False

    def add(self, connection: Any) -> None:
        """Add one."""
        super().add(connection)
        self.write()

    def discard(self, connection: Any) -> None:
        """Remove one."""
        super().discard(connection)
        self.write()

    def write(self, more: int = 0) -> None:
        """Write the number down, with some that are about to come."""
        if self.is_counted:
            self._counts.put(self._worker, len(self) + more)


class Acceptor:
    """Accepts connections, one in each turn of the event loop.

    Args:
        listener: shared with other processes; not blocking.
        give_way: whether to leave a connection to another worker.
        connect: makes a connection of an accepted socket.
    """

    def __init__(
        self,
        listener: socket.socket,
        give_way: Callable[[], bool],
        connect: Callable[[socket.socket], Awaitable[object]],
    ) -> None:
        self._listener, self._give_way, self._connect = listener, give_way, connect
        self._connecting: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Accept from here on."""
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._on_connection)

    def stop(self) -> None:
        """Accept nothing more."""
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(self._listener.fileno())

    def _on_connection(self) -> None:
        if self._give_way():
            self._rest(_GIVE_WAY_SECONDS)
        else:
            self._accept()

    def _rest(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener.fileno())
        self._pause = loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        """Take a connection that no one else has taken, however many there are already."""
        self._pause = None
        self.start()
        self._accept()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _NO_DESCRIPTORS:
                _log.error("accept_failed", error=error.strerror)
                self._rest(_TIRED_SECONDS)
            return  # another worker was faster, or the caller has gone
        connection.setblocking(False)
        task = asyncio.ensure_future(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
