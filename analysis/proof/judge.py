"""The gates of the proof: which rates are allowed, fixed before any replay is run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import kstest, norm

from analysis.proof.effects import LOOKS, METRIC, PLANTED, Found
from analysis.proof.population import Column
from analysis.proof.statistics import NAIVE, PValues

ALPHA: Final = 0.05
_ERRORS: Final = 3.0  # Monte-Carlo standard errors; at 2,000 replays 5% +- 1.5 points
_KS_LEAST: Final = 0.001
_NAIVE_LEAST: Final = 0.10
_FIXED_LOOKS_LEAST: Final = 0.10
_COVERAGE: Final = 0.95


@dataclass(frozen=True)
class Check:
    """One number of the proof and the range that it must be in.

    Attributes:
        group: what is checked.
        name: which statistic.
        value: a rate, or a p-value.
        least: the smallest allowed value.
        most: the largest one.
        replays: how many it comes from.
    """

    group: str
    name: str
    value: float
    least: float
    most: float
    replays: int

    @property
    def is_met(self) -> bool:
        """Return whether the value is in its range."""
        return self.least <= self.value <= self.most


def judge(
    found: PValues, effect: Found, looked: tuple[Column, Column], naive_like: float = _NAIVE_LEAST
) -> list[Check]:
    """Return all checks of one population.

    Args:
        found: p-values without an effect.
        effect: estimates of the planted lift.
        looked: p-values of readings before the end.
        naive_like: see `Population`.
    """
    return [*_false_positives(found, naive_like), *_uniform(found), *_effect(effect), *_looks(*looked)]


def _false_positives(found: PValues, naive_like: float) -> Iterator[Check]:
    for name, values in found.items():
        rate = float(np.mean(np.array(values) < ALPHA))
        metric, _, kind = name.partition(", ")
        if kind == NAIVE:
            least = naive_like if metric == "like" else _NAIVE_LEAST
            yield Check("false positives, must be found", name, rate, least, 1.0, len(values))
        else:
            yield Check("false positives", name, rate, *_around(ALPHA, len(values)), len(values))


def _uniform(found: PValues) -> Iterator[Check]:
    """Yield the Kolmogorov-Smirnov test of each good statistic: p-values without an effect are uniform."""
    for name, values in found.items():
        if not name.endswith(NAIVE):
            p = float(kstest(_spread(values), "uniform").pvalue)
            yield Check("uniform p-values (KS)", name, p, _KS_LEAST, 1.0, len(values))


def _spread(values: list[float]) -> Column:
    return np.clip(np.array(values, dtype=np.float64), 0.0, 1.0)


def _effect(found: Found) -> Iterator[Check]:
    n = len(found.lift)
    inside = float(np.mean((found.low <= PLANTED) & (found.high >= PLANTED)))
    error = float(np.std(found.lift) / math.sqrt(n))
    allowed = 2.5 * error
    title = f"planted {PLANTED:+.0%} {METRIC}"
    yield Check(title, "coverage of the 95% interval", inside, *_around(_COVERAGE, n), n)
    yield Check(title, "mean estimate", float(np.mean(found.lift)), PLANTED - allowed, PLANTED + allowed, n)
    power = float(np.mean(found.p < ALPHA))
    wanted = power_of(PLANTED, float(np.mean((found.high - found.low) / (2 * norm.isf(ALPHA / 2)))))
    yield Check(title, "power, against the formula", power, wanted - 0.04, wanted + 0.04, n)


def power_of(lift: float, error: float) -> float:
    """Return the chance that a two-sided test at 5% finds a lift."""
    limit = float(norm.isf(ALPHA / 2))
    return float(norm.sf(limit - lift / error) + norm.cdf(-limit - lift / error))


def _looks(fixed: Column, valid: Column) -> Iterator[Check]:
    n = len(fixed)
    title = f"{LOOKS} readings, no effect"
    yield Check(title, "fixed test, any reading", _any(fixed), _FIXED_LOOKS_LEAST, 1.0, n)
    yield Check(title, "fixed test, last reading", float(np.mean(fixed[:, -1] < ALPHA)), *_around(ALPHA, n), n)
    yield Check(title, "confidence sequence, any reading", _any(valid), 0.0, ALPHA, n)


def _any(p: Column) -> float:
    return float(np.mean((p < ALPHA).any(axis=1)))


def _around(rate: float, replays: int) -> tuple[float, float]:
    half = _ERRORS * math.sqrt(rate * (1 - rate) / replays)
    return max(0.0, rate - half), min(1.0, rate + half)


def failures(checks: Mapping[str, list[Check]]) -> list[str]:
    """Return one line for each check that is not met."""
    return [
        f"{population}: {one.group}, {one.name}: {one.value:.4g} is not from {one.least:.4g} to {one.most:.4g}"
        for population, found in checks.items()
        for one in found
        if not one.is_met
    ]
