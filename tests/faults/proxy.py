"""A TCP proxy that does to the replies of any server what bad networks do, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.support.fault_proxy import FaultProxy


@dataclass
class Toxics:
    """The damage to replies from now on.

    Attributes:
        delay_ms: before every piece.
        jitter_ms: at most so much more, at random.
        slice_bytes: pieces of this size, with a pause of `slice_pause_ms` between them; 0 leaves them whole.
        cut_after: bytes of a connection's replies after which it is reset; -1 never.
        flip_share: share of pieces of which one bit is flipped.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    slice_bytes: int = 0
    slice_pause_ms: float = 10.0
    cut_after: int = -1
    flip_share: float = 0.0


class ToxicProxy(FaultProxy):
    """Passes requests on as they are, and replies with the toxics that are set."""

    def __init__(self, target: int, seed: int) -> None:
        super().__init__(target, seed)
        self.toxics = Toxics()
        self.connections = 0
        self.flips = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await super().serve(reader, writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_reply: bool) -> None:
        passed = 0
        with suppress(OSError):
            while piece := await reader.read(65_536):
                if is_reply:
                    piece = self._flipped(piece)
                    if 0 <= self.toxics.cut_after <= passed + len(piece):
                        self.cuts += 1
                        writer.write(piece[: self.toxics.cut_after - passed])
                        await writer.drain()
                        return
                    passed += len(piece)
                    await self._slow(piece, writer)
                else:
                    writer.write(piece)
                await writer.drain()

    def _flipped(self, piece: bytes) -> bytes:
        if self._rng.random() >= self.toxics.flip_share:
            return piece
        self.flips += 1
        altered = bytearray(piece)
        altered[self._rng.randrange(len(piece))] ^= 1 << self._rng.randrange(8)
        return bytes(altered)

    async def _slow(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        toxics = self.toxics
        if toxics.delay_ms:
            await asyncio.sleep((toxics.delay_ms + self._rng.random() * toxics.jitter_ms) / 1_000)
        size = toxics.slice_bytes or len(piece)
        for start in range(0, len(piece), size):
            writer.write(piece[start : start + size])
            if toxics.slice_bytes:
                await writer.drain()
                await asyncio.sleep(toxics.slice_pause_ms / 1_000)


@contextmanager
def toxic_proxy(target: int, seed: int = 1) -> Iterator[ToxicProxy]:
    """Run a proxy to a port of this machine until the block ends."""
    proxy = ToxicProxy(target, seed)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, __: None)  # connections that are cancelled at the end
    told = asyncio.Event()

    async def run() -> None:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        ready.set()
        await told.wait()
        server.close()
        proxy.close()
        await asyncio.sleep(0)

    def serve() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(run())

    thread = threading.Thread(target=serve)
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(told.set)
        thread.join()
        loop.close()
