"""The share of an experiment's units that are in it at a time: steps written in the file, each larger than the last.

A unit is reached when its place, 0-9,999, under the experiment's salt at the stage `ramp`, is below the share. Shares
only grow, so a unit that is in stays in. Its arm is decided by another hash, so it never moves between arms.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from contract.experiments.fields import BUCKETS, Strict, UtcTime


class Step(Strict):
    """From a time on, a share of the units is in the experiment."""

    at: UtcTime
    share: Annotated[float, Field(gt=0, le=1)]

    @property
    def at_ms(self) -> int:
        """Return the time, in ms since the epoch."""
        return math.ceil(self.at.timestamp() * 1000)

    @property
    def places(self) -> int:
        """Return how many of the 10,000 places are reached."""
        return max(1, round(self.share * BUCKETS))


Ramp = Annotated[tuple[Step, ...], Field(max_length=64)]


def check_ramp(ramp: Sequence[Step], start: UtcTime, end: UtcTime) -> None:
    """Refuse steps that are not in order, that shrink, or that are outside of the experiment."""
    for one, other in pairwise(ramp):
        if not (one.at < other.at and one.places < other.places):
            raise ValueError("each step of a ramp must be later and larger than the one before")
    if ramp and not start <= ramp[0].at <= ramp[-1].at < end:
        raise ValueError("the steps of a ramp must be between start and end")


def reached(ramp: Sequence[Step], now_ms: float) -> int:
    """Return how many of the 10,000 places are in at a time: all without a ramp, none before its first step."""
    if not ramp:
        return BUCKETS
    passed = bisect_right(ramp, now_ms, key=lambda step: step.at_ms)
    return ramp[passed - 1].places if passed else 0
