"""The health of one Redis server: its last failure, its breaker, and the probes while the server is skipped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from service.flow.breaker import Breaker
from service.flow.supervision import Supervised, TaskObserver, supervise_job
from service.redis.errors import is_of_no_use, kind_of
from service.redis.pipe import Outcome

_LEAST_PAUSE_SECONDS: Final = 0.01  # between two probes, in any state of the breaker
# After this long without a command, an earlier failure is out of date.
_FORGET_SECONDS: Final = 30.0

_log = structlog.get_logger(__name__)


class Health:
    """Learns from the outcome of every call; while the breaker is open, probes until the server answers.

    Args:
        breaker: decides when the server is skipped.
        probe: asks the server something; raises if it does not answer.
        observer: counts restarts of the probing.
    """

    def __init__(self, breaker: Breaker, probe: Callable[[], Awaitable[object]], observer: TaskObserver) -> None:
        self._breaker, self._probe, self._observer = breaker, probe, observer
        self._probing: Supervised | None = None
        self._failed_at: float | None = None  # when the last commands got no useful answer

    @property
    def is_failing(self) -> bool:
        """Return whether the server failed when it was last asked, a moment ago."""
        return self._failed_at is not None and time.monotonic() - self._failed_at < _FORGET_SECONDS

    def note(self, outcome: Outcome) -> None:
        """Draw the conclusions of a call: about the server's health, and whether to skip it."""
        if isinstance(outcome, Exception):
            self._failed_at = time.monotonic()
            self._note_failure(outcome)
            return
        self._breaker.success()
        self._failed_at = time.monotonic() if all(map(is_of_no_use, outcome)) else None

    async def close(self) -> None:
        """Probe no more."""
        if self._probing is not None:
            await self._probing.cancel()

    def _note_failure(self, error: Exception) -> None:
        was_open = self._breaker.is_open
        self._breaker.failure()
        if self._breaker.is_open and not was_open:
            _log.warning("store_breaker_opened", kind=kind_of(error), error=type(error).__name__)
            self._probing = supervise_job("store_probe", self._probe_until_closed, self._observer)

    async def _probe_until_closed(self) -> None:
        while self._breaker.is_open:
            await asyncio.sleep(max(_LEAST_PAUSE_SECONDS, self._breaker.seconds_to_probe))
            if self._breaker.takes_probe():
                await self._probe_once()
        _log.info("store_breaker_closed")

    async def _probe_once(self) -> None:
        try:
            await self._probe()
        except Exception:  # after any error the server is skipped until the next probe
            self._breaker.failure()
        else:
            self._breaker.success()
