"""Vectors of the specification, equal to GrowthBook's stats package to ten digits, and the table of power."""

from __future__ import annotations

import pytest

from analysis.statistics import power, sequence


@pytest.mark.parametrize(
    ("estimate", "error", "n", "half_width", "p"),
    [
        (0.02077723926, 0.01033434084, 40_000, 0.0313668842, 0.4966625396),
        (0.000403, 0.0001, 14_000_000, 0.0003035209, 0.0022057698),
    ],
)
def test_the_sequence_has_the_known_values(estimate: float, error: float, n: int, half_width: float, p: float) -> None:
    assert sequence.half_width(error, n, n) == pytest.approx(half_width, abs=1e-10)
    assert sequence.p_value(estimate, error, n, n) == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize("n", [100, 10_000, 1_000_000])
def test_p_is_under_alpha_exactly_if_the_interval_leaves_out_0(n: int) -> None:
    half = sequence.half_width(1.0, n, 10_000)
    assert sequence.p_value(half * 1.001, 1.0, n, 10_000) < 0.05 < sequence.p_value(half * 0.999, 1.0, n, 10_000)


def test_the_price_of_reading_at_any_time() -> None:
    assert sequence.critical_value() / 1.959964 == pytest.approx(1.549, abs=0.001)
    wide = sequence.half_width(1.0, 1_000_000, 5_000) / 1.959964  # planned far too small
    assert wide == pytest.approx(1.87, abs=0.01)


TABLE = [  # lift, CV, rho, millions per arm plain, with history, MDE at 1 M per arm, at 10 M
    (0.000403, 0.45, 0.80, 19.6, 7.0, 0.00107, 0.00034),
    (0.000113, 0.45, 0.80, 248.9, 89.6, 0.00107, 0.00034),
    (0.000476, 0.80, 0.80, 44.3, 16.0, 0.00190, 0.00060),
    (0.000853, 1.2, 0.80, 31.1, 11.2, 0.00285, 0.00090),
    (0.00106, 1.2, 0.80, 20.1, 7.2, 0.00285, 0.00090),
    (0.001106, 1.3, 0.80, 21.7, 7.8, 0.00309, 0.00098),
    (0.00093, 6.0, 0.60, 653, 418, 0.0190, 0.0060),
    (0.000538, 1.4, 0.80, 106, 38.3, 0.00333, 0.00105),
    (0.001801, 1.6, 0.75, 12.4, 5.4, 0.00419, 0.00133),
    (0.001761, 3.0, 0.70, 45.6, 23.2, 0.00849, 0.00268),
    (-0.000145, 10, 0.30, 74_700, 67_900, 0.0378, 0.0120),
    (0.002074, 5.0, 0.60, 91.2, 58.4, 0.0159, 0.0050),
    (0.002284, 5.0, 0.55, 75.2, 52.5, 0.0165, 0.0052),
    (0.004876, 4.0, 0.50, 10.6, 7.9, 0.0137, 0.0043),
]


@pytest.mark.parametrize(("lift", "cv", "rho", "plain", "adjusted", "one", "ten"), TABLE)
def test_units_and_lifts_of_the_specifications_table(
    lift: float, cv: float, rho: float, plain: float, adjusted: float, one: float, ten: float
) -> None:
    assert power.units_per_arm(lift, cv) / 1e6 == pytest.approx(plain, rel=0.01)
    assert power.units_per_arm(lift, cv, rho) / 1e6 == pytest.approx(adjusted, rel=0.01)
    assert power.detectable_lift(1e6, cv, rho) == pytest.approx(one, rel=0.01)
    assert power.detectable_lift(1e7, cv, rho) == pytest.approx(ten, rel=0.02)


@pytest.mark.parametrize(("lift", "cv", "rho", "alpha"), [(*row[:3], alpha) for row in TABLE for alpha in (0.05, 0.01)])
def test_units_agree_with_statsmodels(lift: float, cv: float, rho: float, alpha: float) -> None:
    from statsmodels.stats.power import NormalIndPower  # takes half a second, so not for every test that is collected

    ours = power.units_per_arm(lift, cv, rho, alpha=alpha)
    effect = abs(lift) / (cv * (1 - rho * rho) ** 0.5)
    known = NormalIndPower().solve_power(effect_size=effect, alpha=alpha, power=0.8, alternative="two-sided")
    assert ours == pytest.approx(known, rel=1e-4)
    assert power.detectable_lift(ours, cv, rho, alpha=alpha) == pytest.approx(abs(lift))


def test_the_known_number_of_users_for_the_slides_active_days() -> None:
    assert power.units_per_arm(0.000403, 0.45) == pytest.approx(19_572_784, abs=1)
    assert power.units_per_arm(0.000403, 0.58, 0.39) / 1e6 == pytest.approx(27.6, abs=0.05)  # measured on KuaiRand


def test_many_readings_need_more_users() -> None:
    often, once = (power.units_per_arm(0.01, 1, looks=looks) for looks in (14, 1))
    assert often / once == pytest.approx(1.92, abs=0.01)
