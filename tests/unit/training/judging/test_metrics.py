from __future__ import annotations

import numpy as np
import pytest

from training.judging.metrics import MetricsError, auc, auc_by_user, better_and_equal, hit_rate, mrr, ndcg
from training.judging.views import View


@pytest.mark.parametrize(
    ("g", "e", "k", "hit", "gain", "reciprocal"),
    [
        (3, 0, 5, 1, 0.4307, 0.25),
        (0, 3, 2, 0.5, 0.4077, 0.375),
        (5, 0, 5, 0, 0, 0),
        (4, 1, 5, 0.5, 0.1934, 0.1),
        (0, 99, 10, 0.1, 0.0454, 0.0293),
        (0, 0, 1, 1, 1, 1),
    ],
)
def test_metrics_have_their_expected_value_under_ties(
    g: int, e: int, k: int, hit: float, gain: float, reciprocal: float
) -> None:
    better, equal = np.array([g]), np.array([e])
    assert hit_rate(better, equal, k)[0] == pytest.approx(hit, abs=1e-9)
    assert ndcg(better, equal, k)[0] == pytest.approx(gain, abs=5e-5)
    assert mrr(better, equal, k)[0] == pytest.approx(reciprocal, abs=5e-5)


def test_better_and_equal_count_the_other_items() -> None:
    scores = np.array([[0.5, 0.1, 0.5, 0.9], [1.0, 1.0, 1.0, 1.0], [3.0, 2.0, 1.0, 0.0]])
    g, e = better_and_equal(scores, np.array([0, 2, 3]))
    assert g.tolist() == [1, 0, 3]
    assert e.tolist() == [1, 3, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_finite_numbers_fail_the_run(bad: float) -> None:
    scores = np.zeros((3, 4))
    scores[1, 2] = bad
    with pytest.raises(MetricsError, match="1 of 3 rows"):
        better_and_equal(scores, np.zeros(3, dtype=np.int64))
    with pytest.raises(MetricsError):
        auc(scores[1], np.array([True, False, False, False]))


def test_auc_of_constant_scores_is_one_half() -> None:
    assert auc(np.zeros(7), np.arange(7) < 3) == 0.5


def test_auc_needs_both_labels() -> None:
    assert np.isnan(auc(np.arange(3.0), np.ones(3, dtype=np.bool_)))


def test_gauc_weighs_users_by_their_rows_and_uauc_does_not() -> None:
    rows, areas = np.array([10, 30, 5]), np.array([1.0, 0.5, np.nan])
    view = View(np.arange(3), {"gauc": areas, "uauc": areas}, {"gauc": rows.astype(np.float64)})
    assert view.means() == {"gauc": 0.625, "uauc": 0.75}


def test_users_have_their_own_auc() -> None:
    users = np.array([2, 1, 2, 1, 2, 3])
    scores = np.array([0.9, 0.2, 0.1, 0.8, 0.5, 0.4])
    labels = np.array([True, True, False, False, True, True])
    rows, areas = auc_by_user(users, scores, labels)
    assert rows.tolist() == [2, 3, 1]
    np.testing.assert_equal(areas, [0.0, 1.0, np.nan])
