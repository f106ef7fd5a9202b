"""Guardrails, and the test of harm: sequential, one-sided, valid at every reading.

Each unit counts with its values in a window of fixed length after its first exposure, and only when the window is over,
so a value never changes after it was read. The confidence sequence (analysis/statistics/sequence.py) may then be read
at any time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from analysis.statistics.sequence import half_width

MIN_UNITS: Final = 100  # in each arm: below, the sequence's normal approximation may be wrong
CONTROL: Final = "control"


@dataclass(frozen=True)
class Rail:
    """One guardrail: a value per unit, whose mean must not become worse.

    Args:
        key: its name.
        value: of a unit, in its window.
        harm: 1 if more is worse, -1 if less is worse.
        allowed: how much worse than the control's mean a treatment may be; it is stopped only beyond that.
    """

    key: str
    value: str
    harm: int
    allowed: float = 0.0


RAILS: Final = (
    Rail("errors", "share of rankings that failed or were refused", 1, 0.001),
    Rail("degraded", "share of rankings answered degraded", 1, 0.005),
    Rail("latency", "mean of ln(latency) of answered rankings", 1, math.log(1.1)),
    Rail("dislike", "dislikes", 1),
    Rail("playtime", "seconds played", -1),
)


class Arm(NamedTuple):
    """One guardrail in one arm."""

    n: int
    mean: float
    variance: float  # of the units, not of the mean


class Finding(NamedTuple):
    """One guardrail of one treatment at one reading."""

    rail: str
    treatment: str
    harm: float  # beyond the allowed amount, in the unit of the value; below 0 there is none
    bound: float  # the harm is at least this, at all readings together
    control: Arm
    treated: Arm

    @property
    def is_harm(self) -> bool:
        """Say whether the treatment does harm for certain."""
        return self.bound > 0


def find(
    arms: Mapping[str, Mapping[str, Arm]], *, planned: int, alpha: float = 0.05, rails: tuple[Rail, ...] = RAILS
) -> list[Finding]:
    """Test every guardrail of every treatment; all tests together err with a chance of at most `alpha`.

    Args:
        arms: guardrails by arm; a guardrail without data is left out.
        planned: units in both arms at which the test is sharpest.
        alpha: shared equally by all guardrails and treatments.
        rails: the guardrails.
    """
    treatments = sorted(arms.keys() - {CONTROL})
    control = arms.get(CONTROL, {})
    share = alpha / max(len(rails) * len(treatments), 1)
    return [
        _finding(rail, treatment, control[rail.key], arms[treatment][rail.key], planned, share)
        for treatment in treatments
        for rail in rails
        if rail.key in control and rail.key in arms[treatment]
    ]


def _pooled_error(control: Arm, treated: Arm) -> float:
    """Return the error from all units together, for arms whose units all have one value.

    If every ranking of the treatment fails and none of the control, neither arm has a variance of its own.
    """
    units = control.n + treated.n
    variance = (treated.mean - control.mean) ** 2 * control.n * treated.n / units**2
    return math.sqrt(variance / control.n + variance / treated.n)


def _finding(rail: Rail, treatment: str, control: Arm, treated: Arm, planned: int, alpha: float) -> Finding:
    harm = rail.harm * (treated.mean - control.mean) - rail.allowed
    bound = -math.inf
    if min(control.n, treated.n) >= MIN_UNITS:
        error = math.sqrt(control.variance / control.n + treated.variance / treated.n) or _pooled_error(
            control, treated
        )
        if error > 0:  # one side of the two-sided sequence, so twice the chance for both
            bound = harm - half_width(error, control.n + treated.n, planned, 2 * alpha)
    return Finding(rail.key, treatment, harm, bound, control, treated)
