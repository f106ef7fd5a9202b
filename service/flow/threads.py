"""Threads for calls that may hang: each wait for them is bounded, and so is the end of the process.

concurrent.futures' own pool joins its threads when the interpreter ends. A run of a graph that never ends, or a read
from a mount that has gone away, would then keep the process alive until it is killed.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from service.flow.short_turns import short_turns

P = ParamSpec("P")
T = TypeVar("T")

_Call = tuple["Future[Any]", Callable[[], Any]]  # Any: the result of the call


class DaemonThreads(Executor):
    """Runs calls in daemon threads, in the order of their submission.

    Args:
        count: of threads.
        name: of the threads, numbered.
    """

    def __init__(self, count: int, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._names = [f"{name}-{place}" for place in range(count)]
        self._threads: list[Thread] = []
        self._is_closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a call as soon as a thread is free."""
        if self._is_closed:
            raise RuntimeError("the threads take no more calls")
        if not self._threads:
            self._start()
        future: Future[T] = Future()
        self._calls.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Accept no more calls and drop the waiting ones; never waits for a running one."""
        self._is_closed = True
        for _ in self._threads:
            self._calls.put(None)

    def _start(self) -> None:
        self._threads = [Thread(target=self._work, name=name, daemon=True) for name in self._names]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, run = call
            if self._is_closed or not future.set_running_or_notify_cancel():
                future.cancel()
                continue
            fulfil(future, run)
            del call, future, run  # or the last result lives until the next call


async def in_time(
    threads: DaemonThreads, seconds: float, run: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Return what a call returns; an abandoned call continues in its thread until it ends.

    Raises:
        TimeoutError: it did not end in time, or the calls before it did not.
    """
    async with asyncio.timeout(seconds):  # Python 3.11's `wait_for` loses a cancellation that comes with the result
        return await asyncio.wrap_future(threads.submit(run, *args, **kwargs))


class Detached:
    """Runs one blocking call at a time, such as a read from a mount that may hang; each has a time limit.

    A call that does not return blocks only one thread, even if the next one is tried often: nothing queues behind it.
    The thread stays for the next call: to start one, an event loop waits for as long as a busy thread keeps the
    interpreter.
    """

    def __init__(self, name: str) -> None:
        self._thread = DaemonThreads(1, name)
        self._last: Future[Any] | None = None
        weakref.finalize(self, self._thread.shutdown)

    async def run(self, call: Callable[[], T], timeout_seconds: float) -> T:
        """Return what the call returns, or raise what it raises.

        Raises:
            TimeoutError: this call, or the one before it, does not return.
        """
        async with asyncio.timeout(timeout_seconds):
            if self._last is not None and not self._last.done():
                await asyncio.wait({asyncio.wrap_future(self._last)})
            outcome = self._thread.submit(short_turns()(call))
            self._last = outcome
            return await asyncio.wrap_future(outcome)


def fulfil(outcome: Future[T], call: Callable[[], T]) -> None:
    """Run a call and put its value or its error into a future."""
    try:
        result = call()
    except BaseException as error:  # the caller gets the error, of any kind
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
