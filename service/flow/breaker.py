"""A circuit breaker: a dependency that only fails is not called, except for occasional probes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable


class Breaker:
    """Closed: calls go through. Open: they do not, until a probe has succeeded.

    It opens after enough failures in a row that also last long enough. The count spares a dependency that is asked
    rarely. The time spares one that is asked often: at a thousand calls a second, a fault of every second call makes
    eight failures in a row many times a second, but never a quarter of a second without one success.

    A probe is a separate call by the owner, so that no request pays for it.

    Args:
        failures: consecutive failures that open it, at least.
        lasting_seconds: how long they must have lasted, at least.
        cool_down_seconds: until the first probe; doubled with each probe that fails, with jitter so that the replicas
            of a service do not all probe at one moment.
        max_cool_down_seconds: the longest time between two probes.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        *,
        failures: int = 8,
        lasting_seconds: float = 0.25,
        cool_down_seconds: float = 0.25,
        max_cool_down_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit, self._lasting = failures, lasting_seconds
        self._first, self._longest = cool_down_seconds, max_cool_down_seconds
        self._clock = clock
        self._failures = 0
        self._failing_since = 0.0
        self._cool_down = cool_down_seconds
        self._probe_at = 0.0
        self._probing = False
        self.is_open = False

    def success(self) -> None:
        """Note a call that came back; closes the breaker."""
        self.is_open = self._probing = False
        self._failures = 0
        self._cool_down = self._first

    def failure(self) -> None:
        """Note a call that failed; opens the breaker at the limit."""
        if self._failures == 0:
            self._failing_since = self._clock()
        self._failures += 1
        if self.is_open and self._probing:
            self._cool_down = min(2 * self._cool_down, self._longest)
            self._wait()
        elif not self.is_open and self._is_at_limit():
            self.is_open = True
            self._wait()

    def takes_probe(self) -> bool:
        """Return, once per cool-down, that a probe is due; the caller must then note its success or failure."""
        if not self.is_open or self._probing or self._clock() < self._probe_at:
            return False
        self._probing = True
        return True

    @property
    def seconds_to_probe(self) -> float:
        """Return how long it is until the next probe is due."""
        return max(0.0, self._probe_at - self._clock())

    def _is_at_limit(self) -> bool:
        return self._failures >= self._limit and self._clock() - self._failing_since >= self._lasting

    def _wait(self) -> None:
        self._probing = False
        self._probe_at = self._clock() + self._cool_down * random.uniform(0.75, 1.25)
