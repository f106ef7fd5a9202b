"""Requests over one blocking socket, which is opened again when the server closes it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import NamedTuple

from benchmarks.load.sockets import content_length

_PATIENCE_SECONDS = 70.0


class Raw(NamedTuple):
    """One answer."""

    status: int
    head: bytes
    body: bytes
    seconds: float


class Connection:
    """Sends raw bytes and reads one answer to each.

    Attributes:
        tries: 2 sends a request again over a new connection if the server had closed the old one.
    """

    def __init__(self, port: int, head: bytes = b"") -> None:
        self._port, self._head, self.tries = port, head, 1
        self._socket: socket.socket | None = None

    def ask(self, body: bytes = b"") -> Raw | None:
        """Send the head with a body; None if the connection ended without an answer."""
        if not self._head:
            return self.send(body)
        length = b"" if self._head.startswith(b"GET") else b"content-length: %d\r\n" % len(body)
        return self.send(self._head + length + b"\r\n" + body)

    def send(self, request: bytes) -> Raw | None:
        """Send bytes; None if the connection ended without an answer."""
        for _ in range(self.tries):
            if (answer := self._send(request)) is not None:
                return answer
        return None

    def _send(self, request: bytes) -> Raw | None:
        began = time.perf_counter()
        with suppress(OSError):
            sock = self._open()
            with suppress(ConnectionError):  # a refusal may arrive while the rest is being sent
                sock.sendall(request)
            found = self._read(sock)
            if found is not None:
                head, body = found
                if b"connection: close" in head.lower():
                    self.close()
                return Raw(int(head[9:12]), head, body, time.perf_counter() - began)
        self.close()
        return None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=_PATIENCE_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    @staticmethod
    def _read(sock: socket.socket) -> tuple[bytes, bytes] | None:
        received = b""
        while b"\r\n\r\n" not in received:
            piece = sock.recv(65_536)
            if not piece:
                return None
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        missing = content_length(head) - len(body)
        pieces = [body]
        while missing > 0:
            piece = sock.recv(262_144)
            if not piece:
                return None
            pieces.append(piece)
            missing -= len(piece)
        return head, b"".join(pieces)


@contextmanager
def connection(port: int, head: bytes = b"") -> Iterator[Connection]:
    made = Connection(port, head)
    try:
        yield made
    finally:
        made.close()


def post(port: int, path: str = "/rank") -> AbstractContextManager[Connection]:
    """Return a connection that posts JSON."""
    return connection(port, f"POST {path} HTTP/1.1\r\nhost: faults\r\ncontent-type: application/json\r\n".encode())


def get(port: int, path: str) -> AbstractContextManager[Connection]:
    """Return a connection that gets a path."""
    return connection(port, f"GET {path} HTTP/1.1\r\nhost: faults\r\n".encode())
