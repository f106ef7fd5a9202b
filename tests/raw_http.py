"""HTTP by hand, over a socket: what no client library would send."""

from __future__ import annotations

import asyncio
import contextlib
import re
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
    async def open(cls, port: int) -> RawConnection:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**24))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> RawAnswer | None:
        """Return the next answer; None where the connection ended instead."""
        try:
            head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head[:-4].split(b"\r\n")
        headers = [(line.partition(b": ")[0], line.partition(b": ")[2]) for line in lines]
        match = re.fullmatch(rb"HTTP/1\.1 (\d{3}) .*", first)
        assert match is not None, first
        length = next((int(value) for key, value in headers if key == b"content-length"), 0)
        body = await asyncio.wait_for(self._reader.readexactly(length), 10)
        return RawAnswer(int(match[1]), headers, body)

    async def ends(self) -> bool:
        """Return whether the other side closes without another byte."""
        try:
            return await asyncio.wait_for(self._reader.read(1), 10) == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
