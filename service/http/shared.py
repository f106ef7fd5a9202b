"""Answers that many callers ask for at once are made once, in a thread, so that no ranking waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

_PAUSE: Final = 9.0  # so many times as long as an answer took, before the next one is made: a tenth of the time
_LONGEST_PAUSE_SECONDS: Final = 1.0


class Prepared:
    """Bytes that never change, made when they are first asked for.

    Args:
        make: returns them.
    """

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make
        self._lock = asyncio.Lock()
        self._made: bytes | None = None

    async def get(self) -> bytes:
        """Return the bytes."""
        if self._made is None:
            async with self._lock:
                if self._made is None:
                    self._made = await asyncio.to_thread(self._make)
        return self._made


class Shared:
    """Bytes that change, made for everyone who waits for them: none of them is older than the question.

    Args:
        make: returns them.
        prepare: awaited first.
    """

    def __init__(self, make: Callable[[], bytes], prepare: Callable[[], Awaitable[None]] | None = None) -> None:
        self._make, self._prepare = make, prepare
        self._making = asyncio.Lock()
        self._next: asyncio.Task[bytes] | None = None
        self._free_at = 0.0

    async def get(self) -> bytes:
        """Return bytes that are made after this call; callers who wait together share them."""
        if self._next is None:
            self._next = asyncio.create_task(self._run())
        return await asyncio.shield(self._next)

    async def _run(self) -> bytes:
        async with self._making:
            pause = self._free_at - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            self._next = None  # later callers get the following one
            began = time.perf_counter()
            try:
                if self._prepare is not None:
                    await self._prepare()
                return await asyncio.to_thread(self._make)
            finally:
                ended = time.perf_counter()
                self._free_at = ended + min(_PAUSE * (ended - began), _LONGEST_PAUSE_SECONDS)
