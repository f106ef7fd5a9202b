"""One listening socket, passed from a process to its successor on the same machine, so that a restart refuses no one.

The process that serves waits at a door: a Unix socket in the abstract namespace, named after the address. A successor
that finds the address in use knocks there. It gets the listening socket when the process is stopping, or when it
is started to replace it. Both processes then accept from one queue, so no connection is ever lost. When the
successor has loaded everything it reports that, and the old process closes its descriptor and drains.

Only a process of the same user gets an answer. Where abstract names do not exist (anything but Linux) there is no door,
and a successor is refused as long as the address is in use.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog

SUCCEED: Final = b"succeed"  # give me the socket if you are stopping
REPLACE: Final = b"replace"  # give me the socket, and stop when I am ready
READY: Final = b"ready"
_TAKE: Final = b"take"  # comes with the socket
_WAIT_SECONDS: Final = 5.0  # for an answer at the door
_MAX_WORD: Final = 64

_log = structlog.get_logger(__name__)


class StillServing(Exception):  # noqa: N818 - reads as a state
    """Another process serves at the address and is not stopping; has its process id."""

    def __init__(self, process_id: int) -> None:
        super().__init__(process_id)
        self.process_id = process_id


class Door:
    """Where a process that serves hands its listening socket to a successor. Lives on an event loop.

    Args:
        listener: what is handed over.
        is_stopping: whether this process is about to end.
        on_change: called when a successor has come, is ready, or is lost.
    """

    def __init__(
        self, listener: socket.socket, *, is_stopping: Callable[[], bool], on_change: Callable[[], None]
    ) -> None:
        self._listener, self._is_stopping, self._on_change = listener, is_stopping, on_change
        self._name = _name(listener.getsockname())
        self._door: socket.socket | None = None
        self._visitors: set[socket.socket] = set()
        self._successor: socket.socket | None = None
        self.is_succeeded = False

    @property
    def has_successor(self) -> bool:
        """Return whether a successor has the socket and is still loading."""
        return self._successor is not None

    def open(self) -> None:
        """Wait for successors; without abstract names, or where the name is taken, there are none."""
        with suppress(OSError):
            door = _unix_socket()
            try:
                door.bind(self._name)
                door.listen(4)
            except OSError:
                door.close()
                raise
            self._door = door
            asyncio.get_running_loop().add_reader(door.fileno(), self._let_in, door)

    def close(self) -> None:
        """Take no successor any more; one that is loading keeps the socket."""
        for one in (self._door, self._successor, *self._visitors):
            if one is not None:
                self._leave(one)
        self._door = self._successor = None
        self._visitors.clear()

    def _let_in(self, door: socket.socket) -> None:
        with suppress(OSError):
            visitor, _ = door.accept()
            if not _is_ours(visitor):
                visitor.close()
                return
            visitor.setblocking(False)
            self._visitors.add(visitor)
            asyncio.get_running_loop().add_reader(visitor.fileno(), self._hear, visitor)

    def _hear(self, visitor: socket.socket) -> None:
        try:
            word = visitor.recv(_MAX_WORD)
        except OSError:
            word = b""
        if visitor is self._successor:
            self._hear_successor(visitor, is_ready=word == READY)
        elif self._successor is None and (word == REPLACE or (word == SUCCEED and self._is_stopping())):
            self._hand_over(visitor)
        else:
            with suppress(OSError):
                visitor.send(b"%d" % os.getpid())
            self._visitors.discard(visitor)
            self._leave(visitor)

    def _hand_over(self, visitor: socket.socket) -> None:
        """Give away the socket, and the door with it: the successor will open its own."""
        self._visitors.discard(visitor)
        if self._door is not None:
            self._leave(self._door)
            self._door = None
        try:
            socket.send_fds(visitor, [_TAKE], [self._listener.fileno()])
        except OSError:  # it has gone
            self._leave(visitor)
            self.open()
            return
        self._successor = visitor
        _log.info("successor_loads")
        self._on_change()

    def _hear_successor(self, successor: socket.socket, *, is_ready: bool) -> None:
        self._leave(successor)
        self._successor, self.is_succeeded = None, is_ready
        if is_ready:
            _log.info("successor_ready")
        else:
            _log.warning("successor_lost")
            self.open()
        self._on_change()

    def _leave(self, one: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(one.fileno())
        one.close()


def take_over(address: Any, *, replaces: bool) -> tuple[socket.socket, socket.socket] | None:
    """Return the listening socket of the process at an address, and the connection to tell it READY over.

    Args:
        address: of the listening socket, as getsockname gives it.
        replaces: whether to ask for it even when the process is not stopping.

    Returns:
        None if none of our processes is at the door.

    Raises:
        StillServing: there is one, and it keeps the socket.
    """
    connection = _unix_socket()
    with suppress(OSError, ValueError):
        connection.settimeout(_WAIT_SECONDS)
        connection.connect(_name(address))
        if _is_ours(connection):
            connection.send(REPLACE if replaces else SUCCEED)
            word, descriptors, _, _ = socket.recv_fds(connection, _MAX_WORD, 1)
            if descriptors:
                return socket.socket(fileno=descriptors[0]), connection
            connection.close()
            raise StillServing(int(word))
    connection.close()
    return None


def _unix_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.setblocking(False)
    return made


def _name(address: Any) -> str:  # Any: a socket's address, a tuple whose length depends on its family
    return f"\0ranker/{address[0]}/{address[1]}"


def _is_ours(connection: socket.socket) -> bool:
    """Return whether the process at the other end runs as our user."""
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return bool(user == os.geteuid())
