"""How long work that is ready waits for the event loop: the queue of a process whose core is full.

Requests of a busy process wait before any of our queues: in sockets that the loop has not read yet. A sample is the
time of one pass of the loop, taken twenty times a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

_INTERVAL_SECONDS: Final = 0.05


class LoopWait:
    """Samples the running loop until it is stopped.

    Args:
        observe: gets the seconds of each sample.
    """

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe, self._loop = observe, asyncio.get_running_loop()
        self._timer = self._next()

    def stop(self) -> None:
        """Take no more samples."""
        self._timer.cancel()

    def _next(self) -> asyncio.TimerHandle:
        return self._loop.call_later(_INTERVAL_SECONDS, self._due)

    def _due(self) -> None:
        # A timer is due to the millisecond only; the time from here to the next pass has no such error.
        self._loop.call_soon(self._passed, time.perf_counter())
        self._timer = self._next()

    def _passed(self, began: float) -> None:
        self._observe(time.perf_counter() - began)
