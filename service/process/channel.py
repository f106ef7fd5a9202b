"""Messages between the supervisor and one worker, over a socket pair that the worker inherits.

A message is a verb, a length, and so many bytes. The supervisor never looks into the bytes. The end of the stream
tells each of them that the other process has ended, in any way.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from enum import IntEnum
from typing import Final, NamedTuple

_HEAD: Final = struct.Struct("<BI")


class Verb(IntEnum):
    """The meaning of a message; S: sent by the supervisor, W: by the worker."""

    READY = 1  # W: everything is loaded
    LISTEN = 2  # S: accept connections
    DRAIN = 3  # S: do not be ready any more
    CLOSE = 4  # S: close the port, answer what was accepted, end
    HURRY = 5  # S: wait for nothing any more
    RELOAD = 6  # S: look at the experiment file and refused bundles now
    LEAVING = 7  # W: I got a signal; replace me
    REPORT = 8  # S: how are you? W: this is my report
    REPORTS = 9  # W: how are all? S: these are the reports
    INHERIT = 10  # S: count on from a worker that has ended; this was its last report
    SUCCEEDED = 11  # S: others that are ready answer at your ports: leave that of operators
    SLOW = 12  # S, W: which are your slowest rankings, or those of all? With content: these


class Message(NamedTuple):
    """One message."""

    verb: Verb
    content: bytes


class Channel:
    """One end; made on an event loop with `open`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, end: socket.socket) -> Channel:
        """Return a channel over one end of a socket pair."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end))

    def say(self, verb: Verb, content: bytes = b"") -> None:
        """Send a message, without waiting; one that finds no one at the other end is dropped."""
        if not self._writer.is_closing():
            self._writer.write(_HEAD.pack(verb, len(content)) + content)

    async def messages(self) -> AsyncIterator[Message]:
        """Yield the messages of the other end, until it has ended."""
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                verb, size = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
                yield Message(Verb(verb), await self._reader.readexactly(size))

    async def finish(self) -> None:
        """Wait until all messages have left this process."""
        with suppress(OSError):
            await self._writer.drain()
            self._writer.close()
            await self._writer.wait_closed()

    def close(self) -> None:
        """Close the socket."""
        self._writer.close()
