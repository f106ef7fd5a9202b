"""Simulated experiments under the guard: how often it stops a harmless one, and how soon a harmful one.

The users and their values are made; arms come from the hash that the service uses, under a new salt for each replay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from analysis.guard.rails import CONTROL, MIN_UNITS, RAILS, Arm, Finding, find
from contract.experiments.buckets import bucket

Floats = NDArray[np.float64]
Harms = Mapping[str, float]
"""Planted harm by guardrail: added to shares and to the logarithm of latency, a factor for the others."""

TREATMENT: Final = "treatment"
STRICT: Final = tuple(replace(rail, allowed=0.0) for rail in RAILS)
"""The guardrails without an allowance: the hardest case for the rate of false stops."""


def users(count: int, seed: int) -> dict[str, Floats]:
    """Return made values of users for each guardrail, in the order in which they enter."""
    rng = np.random.default_rng(seed)
    rankings = 1 + rng.poisson(6, count)
    return {
        "errors": rng.binomial(rankings, np.minimum(rng.gamma(0.5, 0.004, count), 1)) / rankings,
        "degraded": rng.binomial(rankings, np.minimum(rng.gamma(0.5, 0.02, count), 1)) / rankings,
        "latency": rng.normal(math.log(2_500), 0.25, count),
        "dislike": rng.poisson(rng.gamma(0.2, 0.1, count)).astype(np.float64),
        "playtime": rng.lognormal(6.0, 1.1, count),
    }


def assign(count: int, salt: str) -> NDArray[np.bool_]:
    """Return which users are in the treatment, half of them, by the service's hash."""
    return np.array([bucket(salt, "arm", f"user-{number}") >= 5_000 for number in range(count)])


def planted(values: Mapping[str, Floats], treated: NDArray[np.bool_], harms: Harms, seed: int) -> dict[str, Floats]:
    """Return the values with harm in the treatment."""
    made = {name: column.copy() for name, column in values.items()}
    rng = np.random.default_rng(seed)
    for name, harm in harms.items():
        column, arm = made[name], treated
        if name in ("errors", "degraded"):  # a share of users gets nothing else any more
            column[arm & (rng.random(len(arm)) < harm)] = 1.0
        elif name == "latency":
            column[arm] += harm
        elif name == "dislike":
            column[arm] += rng.poisson(column.mean() * (harm - 1), arm.sum())
        else:
            column[arm] *= harm
    return made


def readings(
    values: Mapping[str, Floats], treated: NDArray[np.bool_], looks: Sequence[int]
) -> list[dict[str, dict[str, Arm]]]:
    """Return what the guard would measure after each number of users."""
    arms = {CONTROL: ~treated, TREATMENT: treated}
    made: list[dict[str, dict[str, Arm]]] = [{arm: {} for arm in arms} for _ in looks]
    places = np.asarray(looks) - 1
    for arm, chosen in arms.items():
        n = np.cumsum(chosen)[places].astype(np.float64)
        for name, column in values.items():
            mean = np.cumsum(column * chosen)[places] / n
            variance = (np.cumsum(column * column * chosen)[places] - n * mean * mean) / (n - 1)
            for place, reading in enumerate(made):
                reading[arm][name] = Arm(int(n[place]), float(mean[place]), max(float(variance[place]), 0.0))
    return made


def stopped_at(
    values: Mapping[str, Floats], treated: NDArray[np.bool_], looks: Sequence[int], *, strict: bool = False
) -> tuple[int, tuple[str, ...]] | None:
    """Return after how many users the guard stops, and for which guardrails; None if it never does."""
    rails = STRICT if strict else RAILS
    for look, arms in zip(looks, readings(values, treated, looks), strict=True):
        harmful = [finding.rail for finding in find(arms, planned=looks[-1] // 2, rails=rails) if finding.is_harm]
        if harmful:
            return look, tuple(harmful)
    return None


def fixed_test_stops(values: Mapping[str, Floats], treated: NDArray[np.bool_], looks: Sequence[int]) -> bool:
    """Say whether a test for one reading would have stopped at any: it must, too often, or the looks prove nothing."""
    limit = norm.isf(0.05 / len(RAILS))
    found = (find(arms, planned=1, rails=STRICT) for arms in readings(values, treated, looks))
    return any(finding.harm / _error(finding) > limit for one in found for finding in one if _error(finding) > 0)


def _error(finding: Finding) -> float:
    if min(finding.control.n, finding.treated.n) < MIN_UNITS:
        return 0.0
    return math.sqrt(sum(arm.variance / arm.n for arm in (finding.control, finding.treated)))
