"""When a process stops: after a signal, or when its successor is ready; and how long it accepts until then."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

import structlog

from service.process.early import SIGNALS
from service.process.handover import Door

SUCCESSOR_SECONDS: Final = 60.0  # for a successor to load, while this process goes on accepting
_QUIET_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


@contextmanager
def handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle SIGTERM, SIGINT and SIGHUP; a handler is only removed when the one before it is back.

    Without one, a second SIGTERM would end the process with another status, and that of process 1 be lost.
    """
    before = {number: signal.signal(number, handler) for number in (*SIGNALS, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class Stopping:
    """Counts the signals, keeps the door open for successors, and waits until the port is to be closed.

    Args:
        delay_seconds: how long new connections are accepted after SIGTERM.
        on_successor: called when a successor has come, is ready, or is lost.
        asked: returns the number of requests of callers so far.
        longer_seconds: how long after the delay, at most, connections are accepted while new requests come.
    """

    def __init__(
        self,
        delay_seconds: float,
        on_successor: Callable[[], None],
        asked: Callable[[], float] = lambda: 0.0,
        longer_seconds: float = 0.0,
    ) -> None:
        self._delay, self._on_successor = delay_seconds, on_successor
        self._asked, self._longer = asked, longer_seconds
        self._signals: list[signal.Signals] = []
        self._told = asyncio.Event()
        self._door: Door | None = None

    @property
    def has_signal(self) -> bool:
        """Return whether a signal has come."""
        return bool(self._signals)

    @property
    def is_hurried(self) -> bool:
        """Return whether a second signal has come: nothing is waited for any more."""
        return len(self._signals) > 1

    @property
    def is_succeeded(self) -> bool:
        """Return whether a successor is ready."""
        return self._door is not None and self._door.is_succeeded

    @property
    def is_loading_successor(self) -> bool:
        """Return whether a successor has the socket and is still loading."""
        return self._door is not None and self._door.has_successor

    def on_signal(self, number: int, loop: asyncio.AbstractEventLoop | None, act: Callable[[], None]) -> None:
        """Hand a signal to the event loop; one that comes before or after the loop is only noted.

        Safe in a signal handler. SIGHUP stops nothing, so it is not noted.
        """
        if number != signal.SIGHUP:
            self.note(number)
        if loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(act)

    def note(self, number: int) -> None:
        """Note a signal; safe in a signal handler."""
        self._signals.append(signal.Signals(number))

    def tell(self) -> None:
        """Wake `wait`."""
        self._told.set()

    def open_door(self, listener: socket.socket, is_stopping: Callable[[], bool]) -> None:
        """Let successors come."""
        self._door = Door(listener, is_stopping=is_stopping, on_change=self._on_successor)
        self._door.open()

    def close_door(self) -> None:
        """Take no successor any more."""
        if self._door is not None:
            self._door.close()

    async def wait(self) -> None:
        """Wait until told, then for the drain delay, until a successor has loaded, and while callers still ask.

        A second signal, or a successor that is ready, ends the waiting.
        """
        await self._told.wait()
        delay, longer = (self._delay, self._longer) if self._signals[:1] == [signal.SIGTERM] else (0.0, 0.0)
        reason = self._signals[0].name if self._signals else "successor"
        _log.info("draining", signal=reason, delay_s=delay)
        now = asyncio.get_running_loop().time
        began = now()
        latest = began + delay + longer
        while not self.is_succeeded and not self.is_hurried:
            left = began + (max(delay, SUCCESSOR_SECONDS) if self.is_loading_successor else delay) - now()
            if left > 0:
                await self._told_within(left)
            elif not await self._is_asked(latest - now()):
                return

    async def _is_asked(self, left: float) -> bool:
        """Wait for a second, at most for what is left; return whether a request came, or a signal or a successor.

        A balancer that still sends requests has no other replica.
        """
        if left <= 0:
            return False
        before = self._asked()
        await self._told_within(min(_QUIET_SECONDS, left))
        if self._told.is_set():
            return True
        if self._asked() == before:
            return False
        _log.info("draining_while_asked", left_s=round(left, 1))
        return True

    async def _told_within(self, seconds: float) -> None:
        self._told.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), seconds)
