"""The rows of the online table."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from analysis.metrics import METRICS
from analysis.statistics.comparisons import DEFAULT_ROLES, Roles, Row, Units, compare, roles_of
from tests.support.unit_tables import unit_table

TABLE = unit_table(20_000, {"playtime": 0.03, "dislike": 0.3})


@cache
def measured() -> list[Row]:
    """Return the rows of the table."""
    return compare(Units(TABLE), DEFAULT_ROLES, ["treatment"], "control")


def row(name: str, rows: list[Row] | None = None) -> Row:
    (found,) = [one for one in rows or measured() if one.metric.name == name]
    return found


def test_every_metric_has_a_row_in_the_order_of_the_table() -> None:
    assert [one.metric for one in measured()] == list(METRICS)
    assert all(one.estimate is not None and one.adjusted_p is not None for one in measured())


def test_a_planted_lift_is_found_and_its_interval_contains_it() -> None:
    found = row("playtime")
    assert found.moved == 1
    assert found.estimate is not None
    assert found.estimate.lift_low < 0.03 < found.estimate.lift_high


def test_history_keeps_part_of_the_variance() -> None:
    kept = row("playtime").estimate
    assert kept is not None
    assert kept.variance_kept is not None
    assert 0 < kept.variance_kept < 0.5
    assert "no covariate" not in row("playtime").flags


def test_without_history_rows_have_no_covariate() -> None:
    rows = compare(Units(unit_table(2_000, history=0.0)), DEFAULT_ROLES, ["treatment"], "control")
    assert all(one.estimate is not None and one.estimate.variance_kept is None for one in rows)
    assert all("no covariate" in one.flags for one in rows)


def test_a_guardrail_is_tested_on_its_worse_side_only() -> None:
    assert row("dislike").moved == -1
    fewer = compare(Units(unit_table(20_000, {"dislike": -0.3})), DEFAULT_ROLES, ["treatment"], "control")
    assert row("dislike", fewer).moved == 0
    raw = [TABLE.filter(np.asarray(TABLE["arm"]) == arm)["dislike"].to_numpy() for arm in ("control", "treatment")]
    one_sided = stats.ttest_ind(raw[1], raw[0], equal_var=False, alternative="greater").pvalue
    assert row("dislike").adjusted_p == pytest.approx(one_sided, abs=0.001)


def test_primaries_are_adjusted_by_holm_and_secondaries_by_benjamini_and_hochberg() -> None:
    from statsmodels.stats.multitest import (
        multipletests,
    )  # takes half a second, so not for every test that is collected

    for role, method in (("primary", "holm"), ("secondary", "fdr_bh")):
        family = [one for one in measured() if one.role == role]
        known = multipletests([one.estimate.p for one in family if one.estimate], method=method)[1]
        assert [one.adjusted_p for one in family] == pytest.approx(list(known), abs=1e-8)


def test_arms_and_metrics_form_one_family() -> None:
    from statsmodels.stats.multitest import multipletests

    table = unit_table(6_000, arms=("control", "k30", "k50"))
    rows = compare(Units(table), DEFAULT_ROLES, ["k30", "k50"], "control")
    family = [one for one in rows if one.role == "primary"]
    assert len(family) == 6
    known = multipletests([one.estimate.p for one in family if one.estimate], method="holm")[1]
    assert [one.adjusted_p for one in family] == pytest.approx(list(known), abs=1e-8)


def test_an_early_reading_has_wider_intervals_and_larger_p_values() -> None:
    early = compare(Units(TABLE), DEFAULT_ROLES, ["treatment"], "control", {"treatment": 60_000})
    for then, now in zip(early, measured(), strict=True):
        assert then.sequential is not None
        assert then.estimate is not None
        assert then.sequential.lift_low < then.estimate.lift_low < then.estimate.lift_high < then.sequential.lift_high
        assert then.mde is not None
        assert now.mde is not None
        assert then.mde > now.mde
        assert then.adjusted_p is not None
        assert now.adjusted_p is not None
        assert then.adjusted_p >= now.adjusted_p


def test_rows_do_not_depend_on_the_order_of_the_units() -> None:
    shuffled = TABLE.take(np.random.default_rng(9).permutation(TABLE.num_rows))
    assert compare(Units(shuffled), DEFAULT_ROLES, ["treatment"], "control") == measured()


def test_outliers_are_cut_at_one_limit_for_all_arms_and_the_raw_lift_is_kept() -> None:
    columns = {name: TABLE[name].to_numpy().copy() for name in TABLE.column_names if name != "unit"}
    (place,) = np.flatnonzero(columns["arm"] == "treatment")[:1]
    columns["playtime"][place] = 1e9
    columns["play"][place] = 1e9
    table = pa.table({"unit": TABLE["unit"], **columns})
    rows = compare(Units(table), DEFAULT_ROLES, ["treatment"], "control")
    found, raw = row("playtime", rows).estimate, row("playtime", rows).raw
    assert found is not None
    assert raw is not None
    assert found.lift == pytest.approx(0.03, abs=0.01)
    assert raw.lift > 10
    assert row("play", rows).raw is None
    assert "winsorised" in row("playtime", rows).flags


def test_units_whose_window_is_not_complete_are_left_out() -> None:
    complete = np.arange(TABLE.num_rows) % 2 == 0
    some = TABLE.set_column(TABLE.column_names.index("complete"), "complete", pa.array(complete))
    assert sum(Units(some).counts.values()) == TABLE.num_rows // 2


def test_an_arm_without_events_has_rows_that_compare_nothing() -> None:
    rows = compare(Units(unit_table(2_000, {"like": -1.0})), DEFAULT_ROLES, ["treatment"], "control")
    assert row("like", rows).estimate is None
    assert row("like", rows).adjusted_p is None
    assert row("like", rows).flags == ("nothing to compare",)
    assert row("play", rows).estimate is not None


def test_an_experiment_names_its_own_primaries() -> None:
    assert roles_of(["playtime"], ["dislike", "latency_ms_p99"]) == (
        Roles(("playtime",), ("dislike",)),
        ["latency_ms_p99"],
    )
    assert roles_of([], []) == (DEFAULT_ROLES, [])
