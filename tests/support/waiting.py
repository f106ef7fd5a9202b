"""Waits until a condition is true; a minute is for machines that run other tests too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], bool]) -> None:
    """Wait on the event loop."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another thread or task makes it true
            await asyncio.sleep(0.001)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait in this thread."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
