"""A TCP proxy on loopback that goes to any server and does to its replies what bad networks do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class FaultProxy:
    """Passes bytes on, or cuts replies.

    Attributes:
        target: port of the server behind it; new connections go there.
        cut_share: share of the pieces of replies that are cut at a random byte, with the connection.
        cuts: replies that were cut.
    """

    def __init__(self, target: int, seed: int = 3) -> None:
        self.target = target
        self.cut_share = 0.0
        self.cuts = 0
        self.port = 0
        self._rng = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(OSError):
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target)
            both = [asyncio.ensure_future(self._pass(reader, to_writer, False))]
            both += [asyncio.ensure_future(self._pass(to_reader, writer, True))]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for half in both:
                    half.cancel()
                to_writer.close()
        writer.close()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_reply: bool) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                if is_reply and self._rng.random() < self.cut_share:
                    self.cuts += 1
                    writer.write(piece[: self._rng.randrange(len(piece))])
                    await writer.drain()
                    return
                writer.write(piece)
                await writer.drain()


@asynccontextmanager
async def fault_proxy(target: int) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.close()
