"""Estimates of what an arm changed. The one module that calls tea-tasting.

Means are compared by Welch's test, ratios by the delta method over units. With history, both are adjusted by it
(CUPED), with one coefficient for both arms. Relative lifts follow tea-tasting: the adjusted treatment mean over the
adjusted control mean, with an interval that is symmetric in the logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import Final, Literal

import numpy as np
import tea_tasting as tt
from numpy.typing import NDArray
from scipy.stats import norm
from tea_tasting.aggr import Aggregates
from tea_tasting.metrics.mean import MeanResult, RatioOfMeans

from analysis.statistics.power import detectable

Column = NDArray[np.float64]

MIN_UNITS: Final = 10  # in each arm; below, no interval of these can be trusted
MIN_HISTORY: Final = 100
"""Units with history that each arm needs before it adjusts anything."""
_VALUE, _DENOMINATOR, _BEFORE, _BEFORE_DENOMINATOR = "value", "denominator", "before", "before_denominator"
_TWO_SIDED: Final = float(norm.isf(0.025))


@dataclass(frozen=True)
class Sample:
    """One metric in one arm: an entry per unit, in the same order in all columns.

    Args:
        value: the metric, or the numerator of a ratio.
        denominator: of a ratio; None for a mean.
        before: the same as `value` before the unit's first exposure; 0 without history.
        before_denominator: the same as `denominator`.
        history: whether the unit has a time before.
    """

    value: Column
    denominator: Column | None = None
    before: Column | None = None
    before_denominator: Column | None = None
    history: NDArray[np.bool_] | None = None

    @property
    def n(self) -> int:
        """Return the number of units."""
        return len(self.value)


@dataclass(frozen=True)
class Sums:
    """Sums over the units of an arm, of a metric's numerator and denominator; a mean's denominator is 1 per unit."""

    n: int
    sum: float
    sum_squares: float
    base: float
    base_squares: float
    cross: float  # numerator times denominator


@dataclass(frozen=True)
class Estimate:
    """A treatment against the control, in one metric. Means are as measured; effects are adjusted by history."""

    n_control: int
    n_treatment: int
    control: float
    treatment: float
    difference: float
    difference_low: float
    difference_high: float
    error: float  # standard error of the difference
    lift: float
    lift_low: float
    lift_high: float
    log_error: float  # standard error of the logarithm of 1 + lift
    p: float  # two-sided
    p_less: float  # one-sided: small if the treatment is lower
    p_greater: float
    mde: float  # relative: the lift that this many units show with 80% power
    variance_kept: float | None  # by the adjustment; None: no covariate


def estimate(control: Sample, treatment: Sample) -> Estimate | None:
    """Compare two arms in a metric; None if there is nothing to compare: too few units, no spread, a mean of 0."""
    if min(control.n, treatment.n) < MIN_UNITS:
        return None
    plain = _compare(control, treatment, adjusted=False)
    if plain is None or not (_has_history(control) and _has_history(treatment)):
        return plain
    adjusted = _compare(*_with_covariates(control, treatment), adjusted=True)
    if adjusted is None:
        return plain
    kept = (adjusted.error / plain.error) ** 2
    return replace(adjusted, control=plain.control, treatment=plain.treatment, variance_kept=kept)


def from_sums(control: Sums, treatment: Sums) -> Estimate | None:
    """Compare two arms of which only sums over units are known."""
    if min(control.n, treatment.n) < MIN_UNITS:
        return None
    return _compare_aggregates(RatioOfMeans(_VALUE, _DENOMINATOR), *(_summed(one) for one in (control, treatment)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for the chance of any false finding among them, by their names."""
    return _adjusted(p_values, "fwer")


def benjamini_hochberg(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for the share of false findings among all findings, by their names."""
    return _adjusted(p_values, "fdr")


def p_value(control: Aggregates, treatment: Aggregates) -> float | None:
    """Return the p-value that `estimate` has, from aggregates; None if there is nothing to compare.

    Args:
        control: means and covariances of the columns `value`, and if there are, `denominator`, `before` and
            `before_denominator`.
        treatment: of the same columns.
    """
    names = [name if name in control.mean_ else None for name in (_VALUE, _DENOMINATOR, _BEFORE, _BEFORE_DENOMINATOR)]
    metric = RatioOfMeans(names[0] or _VALUE, *names[1:])
    if any(one.mean(metric.denom) <= 0 or one.mean(metric.numer) <= 0 for one in (control, treatment)):
        return None
    result = _analyse(metric, control, treatment, use_t=True)
    return float(result.pvalue) if result.effect_size_ci_upper > result.effect_size_ci_lower else None


def _adjusted(p_values: Mapping[str, float], kind: Literal["fwer", "fdr"]) -> dict[str, float]:
    if not p_values:
        return {}
    family = tt.experiment.ExperimentResult({name: {"pvalue": p} for name, p in p_values.items()})
    results = (
        tt.adjust_fwer(family, method="bonferroni", arbitrary_dependence=True)
        if kind == "fwer"
        else tt.adjust_fdr(family)
    )
    (only,) = results.values()
    return {name: float(only[name]["pvalue_adj"]) for name in p_values}


def _has_history(sample: Sample) -> bool:
    if sample.before is None or sample.history is None:
        return False
    if sample.before_denominator is not None and not sample.before_denominator.any():
        return False
    return int(sample.history.sum()) >= MIN_HISTORY and bool(np.ptp(sample.before) > 0)


def _with_covariates(control: Sample, treatment: Sample) -> tuple[Sample, Sample]:
    """Return the arms with the covariate that the adjustment uses.

    Units without history have covariate 0, and an indicator tells them from units that did nothing before. The best
    pooled prediction from both is one covariate again. A ratio needs no indicator: a unit with numerator and
    denominator 0 is exactly average.
    """
    arms = (control, treatment)
    if control.denominator is not None or all(bool(np.all(one.history)) for one in arms):
        return control, treatment
    predicted = covariate(
        np.concatenate([one.value for one in arms]),
        np.concatenate([one.before for one in arms if one.before is not None]),
        np.concatenate([one.history for one in arms if one.history is not None]),
    )
    return tuple(  # type: ignore[return-value]  # two arms in, two out
        Sample(one.value, before=part, history=one.history)
        for one, part in zip(arms, np.split(predicted, [control.n]), strict=True)
    )


def covariate(value: Column, before: Column, history: NDArray[np.bool_]) -> Column:
    """Return the covariate that adjusts a mean, for the units of all arms together."""
    present = history.astype(np.float64)
    return before if history.all() else _prediction(value, before * present, present)


def _prediction(value: Column, before: Column, history: Column) -> Column:
    """Return the least-squares prediction of value from before and history, less its constant.

    The two regressors are cut into orthogonal parts, so that no matrix library (and no thread count) is involved.
    """
    indicator = history - history.mean()
    level = _slope(value, indicator)
    rest = before - before.mean() - _slope(before, indicator) * indicator
    return np.asarray(level * indicator + _slope(value, rest) * rest)


def _slope(value: Column, regressor: Column) -> float:
    spread = float(np.mean(regressor * regressor))
    return float(np.mean((value - value.mean()) * regressor)) / spread if spread > 0 else 0.0


def _compare(control: Sample, treatment: Sample, *, adjusted: bool) -> Estimate | None:
    present = [
        name if column is not None and (adjusted or name in (_VALUE, _DENOMINATOR)) else None
        for name, column in _columns(control).items()
    ]
    names = [name for name in present if name is not None]
    sides = [_aggregates({name: _columns(one)[name] for name in names}) for one in (control, treatment)]
    return _compare_aggregates(RatioOfMeans(present[0] or _VALUE, *present[1:]), *sides)


def _columns(sample: Sample) -> dict[str, Column | None]:
    return {
        _VALUE: sample.value,
        _DENOMINATOR: sample.denominator,
        _BEFORE: sample.before,
        _BEFORE_DENOMINATOR: sample.before_denominator,
    }


def _aggregates(columns: Mapping[str, Column | None]) -> Aggregates:
    """Return means, variances and covariances by numpy's own sums, which do not depend on the number of threads."""
    centred = {name: column - column.mean() for name, column in columns.items() if column is not None}
    n = len(next(iter(centred.values())))
    products = {
        (one, other): float(np.sum(centred[one] * centred[other])) / (n - 1)
        for one in centred
        for other in centred
        if one <= other
    }
    return Aggregates(
        n,
        {name: float(column.mean()) for name, column in columns.items() if column is not None},
        {name: products[name, name] for name in centred},
        {pair: value for pair, value in products.items() if pair[0] != pair[1]},
    )


def _summed(sums: Sums) -> Aggregates:
    n, top, base = sums.n, sums.sum / sums.n, sums.base / sums.n
    return Aggregates(
        n,
        {_VALUE: top, _DENOMINATOR: base},
        {
            _VALUE: max(sums.sum_squares - n * top * top, 0.0) / (n - 1),
            _DENOMINATOR: max(sums.base_squares - n * base * base, 0.0) / (n - 1),
        },
        {(_VALUE, _DENOMINATOR): (sums.cross - n * top * base) / (n - 1)},
    )


def _compare_aggregates(metric: RatioOfMeans, control: Aggregates, treatment: Aggregates) -> Estimate | None:
    if any(one.mean(metric.denom) <= 0 or one.mean(metric.numer) <= 0 for one in (control, treatment)):
        return None
    try:
        result, by_normal = (_analyse(metric, control, treatment, use_t=use_t) for use_t in (True, False))
    except (ArithmeticError, ValueError):  # history predicts all: a variance of 0 rounds to less, a mean to nearly 0
        return None
    if not (result.control > 0 and result.treatment > 0 and result.effect_size_ci_upper > result.effect_size_ci_lower):
        return None
    error = (by_normal.effect_size_ci_upper - by_normal.effect_size_ci_lower) / (2 * _TWO_SIDED)
    ratio = (1 + by_normal.rel_effect_size_ci_upper) / (1 + by_normal.rel_effect_size_ci_lower)
    half, greater = float(result.pvalue) / 2, result.effect_size > 0
    found = Estimate(
        n_control=control.count(),
        n_treatment=treatment.count(),
        control=float(result.control),
        treatment=float(result.treatment),
        difference=float(result.effect_size),
        difference_low=float(result.effect_size_ci_lower),
        difference_high=float(result.effect_size_ci_upper),
        error=float(error),
        lift=float(result.rel_effect_size),
        lift_low=float(result.rel_effect_size_ci_lower),
        lift_high=float(result.rel_effect_size_ci_upper),
        log_error=float(np.log(ratio)) / (2 * _TWO_SIDED),
        p=float(result.pvalue),
        p_less=1 - half if greater else half,
        p_greater=half if greater else 1 - half,
        mde=detectable(error) / float(result.control),
        variance_kept=None,
    )
    return found if all(math.isfinite(value) for value in astuple(found) if value is not None) else None


def _analyse(metric: RatioOfMeans, control: Aggregates, treatment: Aggregates, *, use_t: bool) -> MeanResult:
    """Return tea-tasting's result, by Student's distribution or by the normal one, which shows the standard errors."""
    names = (metric.numer, metric.denom, metric.numer_covariate, metric.denom_covariate)
    with np.errstate(all="ignore"):
        return RatioOfMeans(*names, use_t=use_t, confidence_level=0.95, equal_var=False).analyze_aggregates(
            control, treatment
        )
