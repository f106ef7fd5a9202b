"""The estimates against scipy and statsmodels on fixed data."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.estimates import Estimate, Sample, Sums, benjamini_hochberg, estimate, from_sums, holm

CLOSE = 1e-8


def world(n: int, shift: float, seed: int) -> dict[str, np.ndarray]:
    """One arm: a skewed metric that the time before predicts, views and finished views."""
    rng = np.random.default_rng(seed)
    before = rng.lognormal(0, 1, n)
    play = rng.poisson(20 * rng.lognormal(0, 0.5, n)) + 1.0
    play_before = rng.poisson(play).astype(float)
    return {
        "value": before * rng.lognormal(0, 0.6, n) * (1 + shift),
        "before": before,
        "play": play,
        "finish": rng.binomial(play.astype(int), 0.3).astype(float),
        "play_before": play_before,
        "finish_before": rng.binomial(play_before.astype(int), 0.3).astype(float),
    }


CONTROL, TREATMENT = world(4_000, 0.0, 1), world(3_000, 0.05, 2)
ALL = {4_000: np.ones(4_000, bool), 3_000: np.ones(3_000, bool)}


def mean_sample(arm: dict[str, np.ndarray], history: np.ndarray | None = None) -> Sample:
    known = ALL[len(arm["value"])] if history is None else history
    return Sample(arm["value"], before=arm["before"] * known, history=known)


def ratio_sample(arm: dict[str, np.ndarray], *, before: bool) -> Sample:
    if not before:
        return Sample(arm["finish"], arm["play"])
    return Sample(arm["finish"], arm["play"], arm["finish_before"], arm["play_before"], ALL[len(arm["play"])])


def compared(control: Sample, treatment: Sample) -> Estimate:
    found = estimate(control, treatment)
    assert found is not None
    return found


def test_a_mean_is_compared_as_by_scipys_welch() -> None:
    found = compared(Sample(CONTROL["value"]), Sample(TREATMENT["value"]))
    known = stats.ttest_ind(TREATMENT["value"], CONTROL["value"], equal_var=False)
    interval = known.confidence_interval(0.95)
    assert found.p == pytest.approx(known.pvalue, abs=CLOSE)
    assert (found.difference_low, found.difference_high) == pytest.approx((interval.low, interval.high), abs=CLOSE)
    assert found.error == pytest.approx(found.difference / known.statistic, rel=CLOSE)
    assert found.variance_kept is None
    for side, p in (("less", found.p_less), ("greater", found.p_greater)):
        one_sided = stats.ttest_ind(TREATMENT["value"], CONTROL["value"], equal_var=False, alternative=side)
        assert p == pytest.approx(one_sided.pvalue, abs=CLOSE)


def test_a_relative_lift_has_tea_tastings_asymmetric_interval() -> None:
    found = compared(Sample(CONTROL["value"]), Sample(TREATMENT["value"]))
    assert found.lift == pytest.approx(TREATMENT["value"].mean() / CONTROL["value"].mean() - 1, rel=CLOSE)
    relative = [
        arm["value"].std(ddof=1) / arm["value"].mean() / math.sqrt(len(arm["value"])) for arm in (CONTROL, TREATMENT)
    ]
    assert found.log_error == pytest.approx(math.hypot(*relative), rel=CLOSE)
    assert (1 + found.lift_high) / (1 + found.lift) == pytest.approx((1 + found.lift) / (1 + found.lift_low), rel=CLOSE)


def test_a_ratio_is_compared_by_the_delta_method_over_units() -> None:
    found = compared(ratio_sample(CONTROL, before=False), ratio_sample(TREATMENT, before=False))
    scores = []
    for arm in (CONTROL, TREATMENT):
        rate = arm["finish"].sum() / arm["play"].sum()
        scores.append(rate + (arm["finish"] - rate * arm["play"]) / arm["play"].mean())
    known = stats.ttest_ind(scores[1], scores[0], equal_var=False)
    assert found.p == pytest.approx(known.pvalue, abs=CLOSE)
    assert found.difference == pytest.approx(scores[1].mean() - scores[0].mean(), abs=CLOSE)


def test_history_adjusts_a_mean_as_cuped_with_one_coefficient_for_both_arms() -> None:
    found = compared(mean_sample(CONTROL), mean_sample(TREATMENT))
    value, before = (np.concatenate([CONTROL[name], TREATMENT[name]]) for name in ("value", "before"))
    theta = np.cov(value, before)[0, 1] / before.var(ddof=1)
    adjusted = value - theta * (before - before.mean())
    known = stats.ttest_ind(adjusted[4_000:], adjusted[:4_000], equal_var=False)
    assert found.p == pytest.approx(known.pvalue, abs=CLOSE)
    assert found.lift == pytest.approx(adjusted[4_000:].mean() / adjusted[:4_000].mean() - 1, abs=CLOSE)
    assert found.control == pytest.approx(CONTROL["value"].mean())  # shown as measured
    assert found.variance_kept == pytest.approx(1 - np.corrcoef(value, before)[0, 1] ** 2, rel=0.05)


def test_cuped_is_near_the_regression_of_lin_with_robust_errors() -> None:
    import statsmodels.api as sm  # takes half a second, so not for every test that is collected

    found = compared(mean_sample(CONTROL), mean_sample(TREATMENT))
    value, before = (np.concatenate([CONTROL[name], TREATMENT[name]]) for name in ("value", "before"))
    arm = np.repeat([0.0, 1.0], [4_000, 3_000])
    centred = before - before.mean()
    fitted = sm.OLS(value, sm.add_constant(np.column_stack([arm, centred, arm * centred]))).fit(cov_type="HC1")
    assert found.difference == pytest.approx(fitted.params[1], rel=0.02)
    assert found.error == pytest.approx(fitted.bse[1], rel=0.02)


def test_history_adjusts_a_ratio_too() -> None:
    found = compared(ratio_sample(CONTROL, before=True), ratio_sample(TREATMENT, before=True))
    plain = compared(ratio_sample(CONTROL, before=False), ratio_sample(TREATMENT, before=False))
    assert found.variance_kept == pytest.approx((found.error / plain.error) ** 2)
    assert found.control == plain.control
    pooled = {name: np.concatenate([CONTROL[name], TREATMENT[name]]) for name in CONTROL}
    lines = []
    for top, bottom in (("finish", "play"), ("finish_before", "play_before")):
        rate = pooled[top].sum() / pooled[bottom].sum()
        lines.append((pooled[top] - rate * pooled[bottom]) / pooled[bottom].mean())
    theta = np.cov(*lines)[0, 1] / lines[1].var(ddof=1)
    rates = [
        [arm[f"finish{when}"].sum() / arm[f"play{when}"].sum() for when in ("", "_before")]
        for arm in (CONTROL, TREATMENT)
    ]
    assert found.difference == pytest.approx(rates[1][0] - rates[0][0] - theta * (rates[1][1] - rates[0][1]), abs=CLOSE)


def test_units_without_history_keep_an_indicator_of_their_own() -> None:
    """The same as least squares on the covariate, 0 without history, and on the indicator."""
    import statsmodels.api as sm

    known = [np.random.default_rng(seed).random(n) < 0.6 for seed, n in ((3, 4_000), (4, 3_000))]
    found = compared(mean_sample(CONTROL, known[0]), mean_sample(TREATMENT, known[1]))
    value = np.concatenate([CONTROL["value"], TREATMENT["value"]])
    history = np.concatenate(known).astype(float)
    before = np.concatenate([CONTROL["before"], TREATMENT["before"]]) * history
    fitted = sm.OLS(value, sm.add_constant(np.column_stack([before, history]))).fit()
    adjusted = value - fitted.fittedvalues + value.mean()
    known_test = stats.ttest_ind(adjusted[4_000:], adjusted[:4_000], equal_var=False)
    assert found.p == pytest.approx(known_test.pvalue, abs=CLOSE)


@pytest.mark.parametrize("share", [0.0, 0.01])
def test_too_little_history_is_no_covariate(share: float) -> None:
    known = [np.arange(n) < share * n for n in (4_000, 3_000)]
    found = compared(mean_sample(CONTROL, known[0]), mean_sample(TREATMENT, known[1]))
    assert found.variance_kept is None
    assert found.p == compared(Sample(CONTROL["value"]), Sample(TREATMENT["value"])).p


def sums(top: np.ndarray, base: np.ndarray | None = None) -> Sums:
    below = np.ones(len(top)) if base is None else base
    return Sums(len(top), top.sum(), (top**2).sum(), below.sum(), (below**2).sum(), (top * below).sum())


def test_the_lift_of_a_day_needs_sums_only() -> None:
    mean = from_sums(*[sums(arm["value"]) for arm in (CONTROL, TREATMENT)])
    ratio = from_sums(*[sums(arm["finish"], arm["play"]) for arm in (CONTROL, TREATMENT)])
    assert mean is not None
    assert ratio is not None
    assert mean.p == pytest.approx(compared(Sample(CONTROL["value"]), Sample(TREATMENT["value"])).p, abs=CLOSE)
    known = compared(ratio_sample(CONTROL, before=False), ratio_sample(TREATMENT, before=False))
    assert (ratio.p, ratio.lift_low) == pytest.approx((known.p, known.lift_low), abs=CLOSE)


@pytest.mark.parametrize(
    ("control", "treatment"),
    [
        (np.ones(5), np.ones(5)),  # too few
        (np.zeros(100), np.zeros(100)),
        (np.zeros(100), np.arange(100.0)),
        (np.ones(100), np.ones(100)),  # no spread
    ],
)
def test_what_cannot_be_compared_is_none(control: np.ndarray, treatment: np.ndarray) -> None:
    assert estimate(Sample(control), Sample(treatment)) is None
    assert from_sums(*[sums(one) for one in (control, treatment)]) is None


def test_history_that_predicts_everything_is_no_traceback() -> None:
    """No variance is left, so the comparison is made without history."""
    rng = np.random.default_rng(6)
    before = [rng.lognormal(3, 2, 200), rng.lognormal(0, 0.1, 200)]
    control, treatment = (Sample(2 * one, before=one, history=np.ones(200, bool)) for one in before)
    found = compared(control, treatment)
    assert found.variance_kept is None
    assert np.isfinite([found.lift_low, found.lift_high, found.p]).all()


def odd_column(rng: np.random.Generator, n: int) -> np.ndarray:
    """Nothing, a constant, rare events, huge or tiny values."""
    columns = (
        np.zeros(n), np.ones(n), rng.random(n), rng.lognormal(0, 3, n), (rng.random(n) < 0.02) * 1.0,
        rng.lognormal(0, 8, n) * (rng.random(n) < 0.05), np.full(n, 1e-300), rng.poisson(3, n) * 1e9,
    )  # fmt: skip
    return columns[rng.integers(len(columns))]


@pytest.mark.parametrize("seed", range(40))
def test_an_estimate_of_odd_data_is_finite_or_none(seed: int) -> None:
    """It also must not warn: warnings are errors here."""
    rng = np.random.default_rng(seed)
    is_ratio, has_history, repeats = rng.random(3) < (0.5, 0.7, 0.2)
    arms = []
    for n in rng.choice([0, 5, 10, 11, 150, 400], 2):
        value, denominator = odd_column(rng, n), odd_column(rng, n) if is_ratio else None
        known = rng.random(n) < rng.choice([0, 0.5, 1])
        before = (value if repeats else odd_column(rng, n)) * known if has_history else None
        earlier = odd_column(rng, n) * known if is_ratio and has_history else None
        arms.append(Sample(value, denominator, before, earlier, known))
    found = estimate(*arms)
    assert found is None or all(np.isfinite(one) for one in astuple(found) if one is not None)


def test_a_ratio_without_denominators_is_none() -> None:
    nothing = Sample(np.zeros(100), np.zeros(100))
    assert estimate(nothing, nothing) is None


@pytest.mark.parametrize(("ours", "method"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
def test_p_values_are_adjusted_as_by_statsmodels(ours: object, method: str) -> None:
    from statsmodels.stats.multitest import multipletests

    p_values = {f"m{place}": p for place, p in enumerate(np.random.default_rng(5).beta(0.4, 2, 40))}
    assert callable(ours)
    known = multipletests(list(p_values.values()), method=method)[1]
    assert list(ours(p_values).values()) == pytest.approx(list(known), abs=CLOSE)
    assert ours({}) == {}
