"""HTTP by hand, over a socket: what no client library would send."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from typing import NamedTuple


class RawAnswer(NamedTuple):
    """One answer as it came."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


class RawConnection:
    """One connection to a port of this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int, *, receive_buffer: int | None = None) -> RawConnection:
        """Connect; with a receive buffer of that many bytes, the kernel takes little more on the reader's behalf."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return cls(*await asyncio.open_connection(sock=sock, limit=2**24))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, has_body: bool = True) -> RawAnswer | None:
        """Return the next answer; None if the connection ended instead. The answer to HEAD has no body."""
        try:
            head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 60)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head[:-4].split(b"\r\n")
        headers = [(line.partition(b": ")[0], line.partition(b": ")[2]) for line in lines]
        match = re.fullmatch(rb"HTTP/1\.1 (\d{3}) .*", first)
        assert match is not None, first
        length = next((int(value) for key, value in headers if key == b"content-length"), 0) if has_body else 0
        body = await asyncio.wait_for(self._reader.readexactly(length), 60)
        return RawAnswer(int(match[1]), headers, body)

    async def ends(self) -> bool:
        """Return whether the other side closes without another byte."""
        try:
            return await asyncio.wait_for(self._reader.read(1), 60) == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
