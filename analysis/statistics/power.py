"""How many units a lift needs, and which lift a number of units can show: closed forms of the two-sided z-test."""

from __future__ import annotations

import math
from typing import Final

from scipy.stats import norm

from analysis.statistics import sequence

ALPHA: Final = 0.05
POWER: Final = 0.80


def units_per_arm(lift: float, cv: float, rho: float = 0.0, *, alpha: float = ALPHA, looks: int = 1) -> float:
    """Return the units that each of two equal arms needs to find a relative lift with 80% power.

    Args:
        lift: relative, not 0; 0.01 is 1%.
        cv: standard deviation of the metric over its mean.
        rho: correlation of the metric with the same metric before the experiment (CUPED); 0 without history.
        alpha: of the two-sided test.
        looks: readings; with more than one, the confidence sequence replaces the fixed test.
    """
    return 2 * _standard_errors(alpha, looks) ** 2 * cv * cv * (1 - rho * rho) / (lift * lift)


def detectable_lift(units: float, cv: float, rho: float = 0.0, *, alpha: float = ALPHA, looks: int = 1) -> float:
    """Return the smallest relative lift that `units` in each of two equal arms find with 80% power (MDE)."""
    return _standard_errors(alpha, looks) * cv * math.sqrt(2 * (1 - rho * rho) / units)


def detectable(error: float) -> float:
    """Return the effect that a fixed test at 5% finds with 80% power, in the units of its standard error."""
    return _standard_errors(ALPHA, 1) * error


def beyond(half_width: float, error: float) -> float:
    """Return the effect whose interval of this half-width leaves out 0 with 80% power."""
    return half_width + float(norm.isf(1 - POWER)) * error


def _standard_errors(alpha: float, looks: int) -> float:
    """Return how many standard errors the true effect must be from 0."""
    critical = norm.isf(alpha / 2) if looks == 1 else sequence.critical_value(alpha)
    return float(critical + norm.isf(1 - POWER))
