"""The rules that turn events into numbers, and what a study asks for.

All times inside the analysis are milliseconds of the study's clock. With a day of 24 hours that is the clock of the
events. With a shorter day (simulated users) every time is stretched when it is read, so that all rules below keep
their meaning in simulated time (docs/adr/0187-simulated-days.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from contract.command_line import CommandError

SECOND: Final = 1_000
MINUTE: Final = 60_000
HOUR: Final = 3_600_000
DAY: Final = 86_400_000

AFTER_LAST_EVENT: Final = 30 * SECOND  # rule (b): how long a device is in front after its last event
MERGED_BELOW: Final = 30 * SECOND  # rule (c): a shorter gap between two spans of a device counts
SILENCE: Final = 120 * SECOND  # rule (f): a longer silence inside a span is cut out
DAY_CAP: Final = 16 * HOUR  # rule (g), per unit and local day
ACTIVE: Final = SECOND  # the shortest span of an active day; the least time of an active hour

SPEED: Final = 3  # a view plays at most three times as fast as the clock runs
VALID_PLAY: Final = 7 * SECOND  # or the item's length, if that is shorter
UNDO: Final = 60 * SECOND
PER_ITEM: Final = 20  # comments, and shares, per unit and item
LATE_DAYS: Final = 3  # events of a day (UTC) count if they arrive until the end of the third day after it
AHEAD: Final = DAY  # an event further ahead of its arrival has a broken clock
LOOKBACK: Final = DAY  # how far before a period its first open span may begin

MAX_DAYS: Final = 90
SIMULATED_FILE: Final = "SIMULATED"
"""A file of this name in the data folder marks data without real users."""


@dataclass(frozen=True)
class Study:
    """The experiment to compute, its window and its clock.

    Args:
        experiment: the key.
        window_days: length of the window after, and of the period before, each unit's first exposure.
        end_ms: what arrived at this time or later is not read (ms UTC). None: everything is read.
        day_ms: length of a day in ms; shorter than 24 hours for simulated users.
        salt: which one, if the experiment was run with several.
    """

    experiment: str
    window_days: int = 14
    end_ms: int | None = None
    day_ms: int = DAY
    salt: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.window_days <= MAX_DAYS:
            raise CommandError(f"the window is {self.window_days} days; give 1 to {MAX_DAYS}")
        if not SECOND <= self.day_ms <= DAY:
            raise CommandError(f"a day is {self.day_ms} ms; give 1 second to 24 hours")

    @property
    def window(self) -> int:
        """Return the length of a window, in ms of the study's clock."""
        return self.window_days * DAY

    @property
    def tick(self) -> int:
        """Return one millisecond of the events, in ms of the study's clock: times are known no better."""
        return -(-DAY // self.day_ms)

    def clock(self, column: str) -> str:
        """Return an SQL expression for a time of the events on the study's clock."""
        if self.day_ms == DAY:
            return column
        return f"({column} // {self.day_ms} * {DAY} + {column} % {self.day_ms} * {DAY} // {self.day_ms})"
