"""Quotas of a caller: buckets that fill at a steady rate, and the header fields that tell what is left.

The fields are those of the IETF draft "RateLimit header fields for HTTP" (draft-ietf-httpapi-ratelimit-headers-11).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, Literal

from service.access.file import Quota

Unit = Literal["requests", "candidates"]
Fields = list[tuple[bytes, bytes]]

_POLICY: Final = b"ratelimit-policy"
_LIMIT: Final = b"ratelimit"


class Bucket:
    """Fills at a steady rate up to its capacity; what costs more than there is makes a debt that must be paid first.

    Args:
        unit: of its content.
        rate: what flows in each second.
        burst_seconds: capacity, in seconds of the rate.
        now: seconds of a monotonic clock.
    """

    __slots__ = ("_at", "_left", "capacity", "policy", "rate", "unit")

    def __init__(self, unit: Unit, rate: float, burst_seconds: int, now: float) -> None:
        self.unit, self.rate = unit, rate
        self.capacity = max(1.0, rate * burst_seconds)  # a caller can always send one request
        window = max(burst_seconds, math.ceil(self.capacity / rate))
        of_unit = "" if unit == "requests" else f';qu="{unit}"'
        self.policy = f'"{unit}";q={int(self.capacity)}{of_unit};w={window}'
        self._left, self._at = self.capacity, now

    def left(self, now: float) -> float:
        """Return its content now; below 0 it is a debt."""
        left = self._left + (now - self._at) * self.rate
        self._left, self._at = min(left, self.capacity), now
        return self._left

    def take(self, amount: float) -> None:
        """Take out, even more than there is."""
        self._left -= amount

    def wait_seconds(self, now: float) -> float:
        """Return how long to wait until one unit is there; 0 or less: it is."""
        return (1 - self.left(now)) / self.rate

    def limit(self, now: float) -> str:
        """Return what is left, and after how many seconds the bucket is full again."""
        left = self.left(now)
        return f'"{self.unit}";r={max(0, int(left))};t={math.ceil((self.capacity - left) / self.rate)}'


class Meter:
    """The use that one caller has made of its quota.

    Candidates are counted after the body was read, so the request that uses up the quota is still answered; the next
    ones wait until its debt is paid. That keeps the mean rate, and refuses a request before its body is parsed.

    Args:
        quota: of the caller.
        share: of the quota that this process has; all processes behind the port have the same.
        clock: monotonic seconds.
    """

    def __init__(self, quota: Quota, share: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        rates: dict[Unit, float | None] = {
            "requests": quota.requests_per_second, "candidates": quota.candidates_per_second
        }  # fmt: skip
        now, self._clock = clock(), clock
        self._buckets = {
            unit: Bucket(unit, rate * share, quota.burst_seconds, now)
            for unit, rate in rates.items()
            if rate is not None
        }
        self._all = tuple(self._buckets.values())
        self._policies = ", ".join(bucket.policy for bucket in self._all).encode()

    def used_up(self) -> tuple[Unit, int] | None:
        """Return what is used up, and after how many seconds to try again; None: a request may come."""
        now = self._clock()
        for bucket in self._all:
            wait = bucket.wait_seconds(now)
            if wait > 0:
                return bucket.unit, max(1, math.ceil(wait))
        return None

    def count(self, unit: Unit, amount: int = 1) -> None:
        """Count what was used."""
        bucket = self._buckets.get(unit)
        if bucket is not None:
            bucket.take(amount)

    def fields(self) -> Fields:
        """Return the header fields that tell a caller its quota and what is left of it; none without a quota."""
        if not self._all:
            return []
        now = self._clock()
        return [(_POLICY, self._policies), (_LIMIT, ", ".join([one.limit(now) for one in self._all]).encode())]
