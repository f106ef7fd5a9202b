"""Turns on the event loop: rankings run at once, everything else one piece at a time.

A ranking passes the event loop several times. If 32 callers of another route are served in each of these passes, even a
cheap route makes a ranking wait 32 times its cost at every step. So other work takes turns: one piece in each pass of
the loop, and while rankings are in progress, few enough pieces that rankings get most of the time. Health checks have
separate turns, without pauses.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

PAUSE: Final = 3.0  # pause after a piece, as a multiple of its duration: a quarter of the time is left for other work
_LONGEST_SECONDS: Final = 0.02  # what a piece is charged at most: the rest of it was waiting for others
_TICK_SECONDS: Final = 0.001  # the event loop's timers are not finer


class Turns:
    """Gives turns, first come, first served.

    Args:
        is_pressed: whether there are rankings in progress.
    """

    def __init__(self, is_pressed: Callable[[], bool]) -> None:
        self._is_pressed = is_pressed
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False
        self._free_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def take(self) -> None:
        """Wait for a turn."""
        if self._loop is not asyncio.get_running_loop():  # the first time, or an application that a test uses again
            self._loop, self._is_taken = asyncio.get_running_loop(), False
            self._waiting.clear()
        if not self._is_taken and self._pause() < _TICK_SECONDS:
            self._give()
            return
        future = self._loop.create_future()
        self._waiting.append(future)
        if not self._is_taken:
            self._is_taken = True
            self._next()
        await future

    def charge(self, seconds: float) -> None:
        """Note how long the piece of work has taken."""
        if self._is_pressed():
            self._free_at = max(self._free_at, time.perf_counter()) + PAUSE * min(seconds, _LONGEST_SECONDS)

    @contextmanager
    def charged(self) -> Iterator[None]:
        """Charge the work done inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.charge(time.perf_counter() - began)

    def _pause(self) -> float:
        return self._free_at - time.perf_counter() if self._is_pressed() else 0.0

    def _give(self) -> None:
        """Keep the turn from others until the next pass of the loop."""
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """Give the turn to the next one, after the pause that the last piece demands."""
        while self._waiting and self._waiting[0].done():  # its caller has gone
            self._waiting.popleft()
        pause = self._pause()
        if not self._waiting:
            self._is_taken = False
        elif pause < _TICK_SECONDS:
            self._waiting.popleft().set_result(None)
            self._give()
        else:
            asyncio.get_running_loop().call_later(pause, self._next)
