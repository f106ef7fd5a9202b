"""The arithmetic of measurements: percentiles, medians over rounds, and ratios; and where results of serving are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

SERVING: Final = Path(__file__).resolve().parent / "results" / "serving"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0 to 1) of the values do not exceed; NaN if there is none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the median of the finite values; NaN if there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each figure over rounds that have the same names."""
    return {name: median([one[name] for one in rounds]) for name in rounds[0]} if rounds else {}


def ratio(part: float, whole: float) -> float:
    """Return part / whole; NaN if that is not a number."""
    return part / whole if whole and math.isfinite(part) and math.isfinite(whole) else math.nan
