"""The asymptotic confidence sequence (Waudby-Smith et al., arXiv 2103.06476): an interval that may be read every day.

A fixed 95% interval is valid at one reading, at a size that was planned before. This one is valid at all readings
together, and is narrowest at the planned size; its price there is 1.55 times the width.
"""

from __future__ import annotations

import math
from typing import Final

DEFAULT_PLANNED: Final = 10_000
"""Units in both arms for which the interval is narrowest if no size is planned; it is valid at any size."""


def half_width(error: float, n: int, planned: int, alpha: float = 0.05) -> float:
    """Return half the width of the interval around an estimate.

    Args:
        error: standard error of the estimate.
        n: units in both arms.
        planned: units in both arms at the planned end.
        alpha: the chance that any of all readings misses the truth.
    """
    rate = _rate(planned, alpha)
    spread = n * rate + 1
    return error * math.sqrt(n) * math.sqrt(2 * spread / (n * n * rate) * math.log(math.sqrt(spread) / alpha))


def p_value(estimate: float, error: float, n: int, planned: int, alpha: float = 0.05) -> float:
    """Return the always-valid p-value of an estimate; below `alpha` when the interval leaves out 0."""
    rate = _rate(planned, alpha)
    spread = n * rate + 1
    exponent = -rate * estimate * estimate * n / (2 * error * error * spread)
    return min(1.0, math.sqrt(spread) * math.exp(exponent))


def critical_value(alpha: float = 0.05) -> float:
    """Return how many standard errors an estimate must be from 0 at the planned size; a fixed test asks for 1.96."""
    return half_width(1.0, 1_000_000, 1_000_000, alpha)


def _rate(planned: int, alpha: float) -> float:
    """Return the square of rho of the paper, which makes the interval narrowest at the planned size."""
    doubled = -2 * math.log(alpha)
    return (doubled + math.log(1 + doubled)) / planned
