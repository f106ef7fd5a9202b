"""A forced end: work in a thread that never returns must not keep the process alive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import structlog

from service.process import early
from service.settings.root import Settings

LINGER_SECONDS: Final = 1.0  # for requests that are on their way over connections we have
ABANDON_SECONDS: Final = 1.0  # for refusals to what would not end
_END_SECONDS: Final = 5.0  # for closing what is left, after everything has been answered

_log = structlog.get_logger(__name__)


def longest_end_seconds(settings: Settings) -> float:
    """Return how long a process may take from the first signal to its end, a successor's loading not included."""
    http = settings.http
    waits_ms = (
        http.drain_delay_ms + http.drain_while_asked_ms + http.drain_timeout_ms + settings.streams.close_timeout_ms
    )
    return waits_ms / 1000 + LINGER_SECONDS + ABANDON_SECONDS + _END_SECONDS


class LatestEnd:
    """Ends the process by force some time after the first signal, unless it has ended by itself.

    Args:
        flush_log: writes the last log lines, within a bounded time.
    """

    def __init__(self, flush_log: Callable[[], None]) -> None:
        self._flush_log = flush_log
        self._timer: threading.Timer | None = None

    @property
    def is_set(self) -> bool:
        """Return whether the clock was started."""
        return self._timer is not None

    def within(self, seconds: float) -> None:
        """Start the clock, or restart it."""
        self.cancel()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        busy = sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
        _log.error("end_forced", threads=busy)
        self._flush_log()
        early.end(0)
