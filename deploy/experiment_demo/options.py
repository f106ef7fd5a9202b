"""The demo's options."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_DAY = re.compile(r"(\d{1,5})s")


@dataclass(frozen=True)
class Plan:
    """The simulation that is asked for.

    Attributes:
        users: how many.
        weeks: of each user's window.
        day_seconds: real length of a simulated day.
        seed: of everything that is drawn.
        port: of the service.
        is_oneshot: whether to stop after the report.
        interleaves: whether half of the users get interleaved lists instead of an arm of the A/B experiment.
    """

    users: int
    weeks: int
    day_seconds: float
    seed: int
    port: int
    is_oneshot: bool
    interleaves: bool = False

    @property
    def days(self) -> int:
        """Return the days of each user's window."""
        return 7 * self.weeks

    @property
    def lived(self) -> int:
        """Return the days to simulate: a window begins within a day, so the last one ends a day later."""
        return self.days + 1


def number(least: int, most: int) -> Callable[[str], int]:
    """Return a reader of whole numbers in a range, for argparse."""

    def whole(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError(f"{value} is not from {least} to {most}")
        return value

    whole.__name__ = f"number from {least} to {most}"
    return whole


def day(text: str) -> float:
    """Read the length of a simulated day, such as 20s.

    Raises:
        ValueError: it is none, or a visit of a few simulated minutes would be shorter than a millisecond.
    """
    found = _DAY.fullmatch(text)
    if not found or not 5 <= int(found[1]) <= 86_400:
        raise ValueError(f"{text} is not from 5s to 86400s")
    return float(found[1])


day.__name__ = "day from 5s to 86400s"
