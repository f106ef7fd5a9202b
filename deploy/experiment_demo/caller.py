"""Calls the running service over kept connections: hundreds of calls a second for a few per cent of a core."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from contract.command_line import CommandError

_TRIES: Final = 8
_BUSY: Final = frozenset({429, 503, 504})
_PAUSE_SECONDS: Final = 0.05
_TIMEOUT_SECONDS: Final = 30.0
_DEADLINE_MS: Final = 2_000  # on a busy machine a late answer is better than a degraded one


class Answer(NamedTuple):
    """A good answer."""

    headers: Mapping[str, str]
    body: Any  # JSON


@dataclass
class Caller:
    """Connections to one service, each for one request at a time.

    Attributes:
        port: of the service, on this machine.
        retried: how many answers of each status were asked for again.
    """

    port: int
    retried: Counter[int] = field(default_factory=Counter)
    _idle: asyncio.Queue[_Connection | None] = field(default_factory=asyncio.Queue)

    async def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request until the service takes it.

        Raises:
            CommandError: it does not.
        """
        request = _request(path, body, headers or {})
        for attempt in range(_TRIES):
            status, answer = await self._once(request)
            if 200 <= status < 300:
                return answer
            if status not in _BUSY:
                raise CommandError(f"POST {path} answered {status}: {str(answer.body)[:200]}")
            self.retried[status] += 1
            await asyncio.sleep(_PAUSE_SECONDS * 2**attempt)
        raise CommandError(f"POST {path} was refused {_TRIES} times, the last time with {status}")

    async def _once(self, request: bytes) -> tuple[int, Answer]:
        connection, kept = await self._idle.get(), False
        try:
            connection = connection or await _Connection.open(self.port)
            status, answer, kept = await asyncio.wait_for(connection.send(request), _TIMEOUT_SECONDS)
            return status, answer
        finally:
            if connection is not None and not kept:
                connection.close()
            self._idle.put_nowait(connection if kept else None)

    def close(self) -> None:
        """Close all connections."""
        while not self._idle.empty():
            if connection := self._idle.get_nowait():
                connection.close()


@asynccontextmanager
async def calling(port: int, connections: int) -> AsyncIterator[Caller]:
    """Call a service with up to so many requests at once; further ones wait."""
    caller = Caller(port)
    for _ in range(connections):
        caller._idle.put_nowait(None)
    try:
        yield caller
    finally:
        caller.close()


@dataclass
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, port: int) -> _Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, request: bytes) -> tuple[int, Answer, bool]:
        """Return the status, the answer, and whether the connection can be used again."""
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, *_ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        is_kept = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        return int(status), Answer(headers, orjson.loads(body)), is_kept

    def close(self) -> None:
        self.writer.close()


def _request(path: str, body: object, headers: Mapping[str, str]) -> bytes:
    content = orjson.dumps(body)
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(content)}", f"X-Deadline-Ms: {_DEADLINE_MS}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content
