"""The statistics that are judged: p-values of all metrics in a replay, by the report's own estimators.

`plain` is without history, `cuped` with it. `naive per play` treats plays as independent, which they are not: it must
fail, or the replays could not find a wrong statistic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from scipy.stats import chisquare, norm

from analysis.metrics import Metric
from analysis.proof.population import Column, Population
from analysis.proof.replays import Arms, sides
from analysis.statistics.estimates import covariate, p_value

NAIVE: Final = "naive per play"
SAMPLE_RATIO: Final = "sample ratio"
_NAIVE_RATES: Final = {"finish": "play", "valid_play": "play", "like": "play"}

PValues = dict[str, list[float]]
"""By the name of the statistic, one for each replay that could be compared."""


def p_values(population: Population, arms: Arms) -> PValues:
    """Return the p-values of all statistics, in the order of the replays."""
    found = {name: list(values) for name, values in _all(population, arms)}
    return {name: values for name, values in found.items() if values}


def _all(population: Population, arms: Arms) -> Iterator[tuple[str, Sequence[float]]]:
    yield SAMPLE_RATIO, [float(chisquare([row.sum(), (~row).sum()]).pvalue) for row in arms]
    for metric in population.metrics:
        for kind, columns in _columns(population, metric):
            yield f"{metric.name}, {kind}", _of_metric(columns, arms)
    for over, under in _NAIVE_RATES.items():
        if population.columns[over].any():
            yield f"{over}, {NAIVE}", _naive(population.columns[over], population.columns[under], arms)


def _columns(population: Population, metric: Metric) -> Iterator[tuple[str, dict[str, Column]]]:
    """Yield the columns of a metric without and with history, by the names of `estimates.p_value`."""
    values = [population.columns[name] for name in metric.columns]
    before = [population.columns[f"{name}_pre"] for name in metric.columns]
    plain = dict(zip(("value", "denominator"), values, strict=False))
    yield "plain", plain
    if all(one.any() for one in before) and population.history.any():
        first = before[0] if metric.kind == "ratio" else covariate(values[0], before[0], population.history)
        yield "cuped", plain | dict(zip(("before", "before_denominator"), [first, *before[1:]], strict=False))


def _of_metric(columns: dict[str, Column], arms: Arms) -> list[float]:
    found = [p_value(one.control, one.treatment) for one in sides(columns, arms)]
    return [p for p in found if p is not None]


def _naive(over: Column, under: Column, arms: Arms) -> list[float]:
    """Return the p-values of a test of two proportions over plays."""
    treated = arms.astype(np.float64) @ np.column_stack([over, under])
    hits, plays = treated[:, 0], treated[:, 1]
    others, rest = over.sum() - hits, under.sum() - plays
    rate = over.sum() / under.sum()
    error = np.sqrt(rate * (1 - rate) * (1 / plays + 1 / rest))
    return [float(p) for p in 2 * norm.sf(np.abs(hits / plays - others / rest) / error)]
