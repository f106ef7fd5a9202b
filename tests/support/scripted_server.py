"""A server on a real socket that answers, stalls, trickles or cuts, as a test asks."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self

Act = Callable[["ScriptedServer", socket.socket], None]
"""Treats one request; the connection is closed after it unless it is `answer`."""

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class ScriptedServer:
    """Does the acts in order, the last one again and again; `asked` has the bytes of each request."""

    def __init__(self, *acts: Act) -> None:
        self._acts, self.asked, self.connections = list(acts), list[bytes](), 0
        self.ends = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ends.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(0.05)
        with connection, suppress(OSError):
            while request := self._read(connection):
                self.asked.append(request)
                act = self._acts.pop(0) if len(self._acts) > 1 else self._acts[0]
                act(self, connection)
                if not getattr(act, "keeps", False):
                    return

    def _read(self, connection: socket.socket) -> bytes:
        data, length = b"", 0
        while b"\r\n\r\n" not in data or len(data) < data.index(b"\r\n\r\n") + 4 + length:
            try:
                piece = connection.recv(65_536)
            except TimeoutError:
                if self.ends.is_set():
                    return b""
                continue
            if not piece:
                return b""
            data += piece
            head = data.partition(b"\r\n\r\n")[0].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        return data


def whole(body: Any, status: int = 200, **headers: str) -> bytes:
    """Return the bytes of an answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n{lines}\r\n".encode() + content


def answer(body: Any, status: int = 200, *, keeps: bool = True, **headers: str) -> Act:
    """Answer; without `keeps` the connection is closed then, and the caller is not told."""

    def act(server: ScriptedServer, connection: socket.socket) -> None:
        connection.sendall(whole(body, status, **headers))

    act.keeps = keeps  # type: ignore[attr-defined]
    return act


def stall(server: ScriptedServer, connection: socket.socket) -> None:
    """Answer nothing until the end."""
    server.ends.wait()


def trickle(body: Any) -> Act:
    """Answer one byte every 10 ms until the end or until the caller has gone."""

    def act(server: ScriptedServer, connection: socket.socket) -> None:
        for byte in whole(body):
            connection.sendall(bytes([byte]))
            if server.ends.wait(0.01):
                return

    return act


def cut(body: Any, after: int) -> Act:
    """Send so many bytes of an answer, then reset the connection."""

    def act(server: ScriptedServer, connection: socket.socket) -> None:
        connection.sendall(whole(body)[:after])
        time.sleep(0.02)  # a reset overtakes bytes that the caller has not read
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    return act
