"""A planted effect, and readings before the planned end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import t

from analysis.proof.population import Column, Population
from analysis.proof.replays import Arms
from analysis.statistics import sequence
from analysis.statistics.estimates import Sample, estimate

METRIC: Final = "playtime"
PLANTED: Final = 0.03
LOOKS: Final = 14
_SEED: Final = 20_261_125  # of the order in which units enter


@dataclass(frozen=True)
class Found:
    """The estimates of a planted lift, one for each replay.

    Attributes:
        lift: estimated.
        low: lower end of the 95% interval.
        high: upper end.
        p: two-sided.
    """

    lift: Column
    low: Column
    high: Column
    p: Column


def planted(population: Population, arms: Arms) -> Found:
    """Multiply the metric of the treatment's units by 1 + PLANTED, and estimate it with history."""
    value, before = population.columns[METRIC], population.columns[f"{METRIC}_pre"]
    rows = []
    for row in arms:
        control, treatment = (
            Sample(value[side] * factor, before=before[side], history=population.history[side])
            for side, factor in ((~row, 1.0), (row, 1.0 + PLANTED))
        )
        found = estimate(control, treatment)
        assert found is not None
        rows.append((found.lift, found.lift_low, found.lift_high, found.p))
    return Found(*np.array(rows, dtype=np.float64).reshape(-1, 4).T)


def looks(population: Population, arms: Arms) -> tuple[Column, Column]:
    """Return the fixed and the always-valid p-values of LOOKS readings, each (replays, LOOKS); no effect is planted.

    Units enter in a fixed random order, and a reading has the same share of them more than the one before. The values
    are those of whole windows, as the report requires. Welch's test in closed form, for all replays at once.
    """
    value = population.columns[METRIC]
    parts = np.array_split(np.random.default_rng(_SEED).permutation(len(value)), LOOKS)
    table = np.column_stack([np.ones_like(value), value, value**2])
    total = np.cumsum([table[part].sum(axis=0) for part in parts], axis=0)
    treated = np.cumsum([arms[:, part].astype(np.float64) @ table[part] for part in parts], axis=0)
    return welch(np.moveaxis(total[:, None, :] - treated, 0, 1), np.moveaxis(treated, 0, 1), len(value))


def welch(control: Column, treatment: Column, planned: int) -> tuple[Column, Column]:
    """Return fixed and always-valid p-values from (..., 3) numbers of units, sums and sums of squares."""
    (n_c, mean_c, error_c), (n_t, mean_t, error_t) = _moments(control), _moments(treatment)
    error = np.sqrt(error_c + error_t)
    freedom = (error_c + error_t) ** 2 / (error_c**2 / (n_c - 1) + error_t**2 / (n_t - 1))
    difference = mean_t - mean_c
    fixed = 2 * t.sf(np.abs(difference) / error, freedom)
    valid = np.vectorize(lambda found, spread, n: sequence.p_value(found, spread, int(n), planned))
    return np.asarray(fixed), np.asarray(valid(difference, error, n_c + n_t), dtype=np.float64)


def _moments(sums: Column) -> tuple[Column, Column, Column]:
    """Return the number of units, the mean, and the square of the mean's standard error."""
    n, total, squares = sums[..., 0], sums[..., 1], sums[..., 2]
    mean = total / n
    return n, mean, (squares - total * mean) / (n - 1) / n
