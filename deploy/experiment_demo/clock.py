"""Simulated days: a day of 20 real seconds, say, in which every duration is as much shorter as the day is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DAY_SECONDS: Final = 86_400


@dataclass(frozen=True)
class Clock:
    """Turns simulated times into real ones.

    Attributes:
        start_ms: when day 0 begins, real, ms since the epoch; a whole number of days since the epoch.
        day_ms: length of a day, real.
    """

    start_ms: int
    day_ms: int

    @classmethod
    def after(cls, now_ms: int, day_ms: int) -> Clock:
        """Return a clock whose day 0 is the first whole day after a time."""
        return cls((now_ms // day_ms + 1) * day_ms, day_ms)

    def real_ms(self, day: int, seconds: float) -> int:
        """Return the real time of a moment, given in simulated seconds from the beginning of a day."""
        return self.start_ms + day * self.day_ms + round(seconds * self.day_ms / DAY_SECONDS)
