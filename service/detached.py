"""Blocking calls that may never return, such as reading a file from a network mount that hangs.

The default executor is no place for them: each look would take one more of its threads, and the end of the process
would wait for all of them. Here one call runs at a time, in a thread that nothing waits for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Detached:
    """Runs one blocking call at a time, with a time limit."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: Future[Any] | None = None

    async def run(self, call: Callable[[], T], timeout_seconds: float) -> T:
        """Return what the call returns, or raise what it raises.

        Raises:
            TimeoutError: this call, or the one before it, does not return.
        """
        async with asyncio.timeout(timeout_seconds):
            if self._last is not None and not self._last.done():
                await asyncio.wait({asyncio.wrap_future(self._last)})
            outcome: Future[T] = Future()
            outcome.set_running_or_notify_cancel()  # a caller who gives up does not make the thread free
            self._last = outcome
            threading.Thread(target=_work, args=(call, outcome), name=self._name, daemon=True).start()
            return await asyncio.wrap_future(outcome)


def _work(call: Callable[[], T], outcome: Future[T]) -> None:
    try:
        result = call()
    except BaseException as error:  # handed over to the caller
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
