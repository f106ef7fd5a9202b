"""Ranking metrics against slow references that follow the definitions word by word, ties included."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.judging.metrics import (
    auc,
    auc_by_user,
    best_of_many,
    better_and_equal,
    hit_rate,
    list_auc,
    mrr,
    ndcg,
    pool_auc,
)
from training.judging.views import View

scores_and_target = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12).flatmap(
    lambda scores: st.tuples(st.just(scores), st.integers(0, len(scores) - 1))
)


def _expected(scores: list[float], target: int, k: int) -> tuple[float, float, float]:
    """Average each metric over every order in which equal scores can stand."""
    above = sum(score > scores[target] for score in scores)
    same = sum(score == scores[target] for score in scores)
    ranks = range(above + 1, above + same + 1)
    hits = [float(rank <= k) for rank in ranks]
    gains = [1 / math.log2(rank + 1) if rank <= k else 0.0 for rank in ranks]
    reciprocals = [1 / rank if rank <= k else 0.0 for rank in ranks]
    return sum(hits) / same, sum(gains) / same, sum(reciprocals) / same


@given(scores_and_target, st.integers(1, 15))
def test_ranking_metrics_equal_the_mean_over_all_orders_of_ties(drawn: tuple[list[float], int], k: int) -> None:
    scores, target = drawn
    g, e = better_and_equal(np.array([scores]), np.array([target]))
    found = hit_rate(g, e, k)[0], ndcg(g, e, k)[0], mrr(g, e, k)[0]
    assert found == pytest.approx(_expected(scores, target, k))


@given(st.lists(scores_and_target, min_size=1, max_size=5))
def test_a_row_does_not_depend_on_its_neighbours(rows: list[tuple[list[float], int]]) -> None:
    width = max(len(scores) for scores, _ in rows)
    table = np.array([scores + [-100.0] * (width - len(scores)) for scores, _ in rows])
    g, e = better_and_equal(table, np.array([target for _, target in rows]))
    for place, (scores, target) in enumerate(rows):
        alone = better_and_equal(np.array([scores]), np.array([target]))
        assert (g[place], e[place]) == (alone[0][0], alone[1][0])


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=15))
def test_auc_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[int, bool]]) -> None:
    positives = [score for score, label in rows if label]
    negatives = [score for score, label in rows if not label]
    pairs = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    found = auc(np.array([score for score, _ in rows], dtype=np.float64), np.array([label for _, label in rows]))
    assert found == pytest.approx(sum(pairs) / len(pairs) if pairs else math.nan, nan_ok=True)


def _slow_auc(rows: list[tuple[int, int, bool]]) -> float | None:
    """Count every pair of a positive and a negative; None without one."""
    positives, negatives = ([score for _, score, label in rows if label is wanted] for wanted in (True, False))
    pairs = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    return sum(pairs) / len(pairs) if pairs else None


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3), st.booleans()), min_size=1, max_size=30))
def test_means_over_users_count_every_pair_of_every_user(rows: list[tuple[int, int, bool]]) -> None:
    """UAUC is the plain mean, GAUC weighs by rows; users with one label only have no part in either."""
    by_user = {user: [row for row in rows if row[0] == user] for user in sorted({user for user, _, _ in rows})}
    areas = {user: _slow_auc(own) for user, own in by_user.items()}
    defined = {user: area for user, area in areas.items() if area is not None}
    users, scores, labels = (np.array(column) for column in zip(*rows, strict=True))
    counted, found = auc_by_user(users, scores.astype(np.float64), labels)
    assert counted.tolist() == [len(own) for own in by_user.values()]
    assert found.tolist() == pytest.approx([math.nan if area is None else area for area in areas.values()], nan_ok=True)
    weight = sum(len(by_user[user]) for user in defined)
    plain = sum(defined.values()) / len(defined) if defined else 0.0
    weighed = sum(len(by_user[user]) * area for user, area in defined.items()) / weight if weight else 0.0
    view = View(np.arange(len(found)), {"uauc": found, "gauc": found}, {"gauc": counted.astype(np.float64)})
    assert view.means() == pytest.approx({"uauc": plain, "gauc": weighed})


@given(
    st.lists(st.integers(-2, 2), min_size=1, max_size=3),
    st.lists(st.integers(-2, 2), min_size=0, max_size=4),
    st.integers(1, 6),
)
def test_the_best_of_many_is_its_mean_over_all_orders_of_ties(p: list[int], n: list[int], k: int) -> None:
    """Sort every permutation of the list stably: ties then stand in every order equally often."""
    entries = [(score, True) for score in p] + [(score, False) for score in n]
    found = best_of_many(np.array(p, dtype=np.float64), np.array(n, dtype=np.float64), k)
    ranks = []
    for order in itertools.permutations(entries):
        labels = [label for _, label in sorted(order, key=lambda entry: -entry[0])]
        ranks.append(labels.index(True) + 1)
    hits = [rank <= k for rank in ranks]
    gains = [1 / math.log2(rank + 1) if rank <= k else 0.0 for rank in ranks]
    reciprocals = [1 / rank if rank <= k else 0.0 for rank in ranks]
    expected = [sum(values) / len(ranks) for values in (gains, hits, reciprocals)]
    assert found == pytest.approx(expected)


@given(scores_and_target)
def test_a_lists_auc_is_that_of_its_labels(drawn: tuple[list[float], int]) -> None:
    scores, target = drawn
    if len(scores) == 1:
        return
    g, e = better_and_equal(np.array([scores]), np.array([target]))
    labels = np.arange(len(scores)) == target
    assert list_auc(g, e, len(scores) - 1)[0] == pytest.approx(auc(np.array(scores), labels))


values = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@given(values, values)
def test_the_auc_of_a_pool_is_the_auc_of_its_rows(positives: list[float], negatives: list[float]) -> None:
    labels = np.arange(len(positives) + len(negatives)) < len(positives)
    found = pool_auc(np.array(positives), np.array(negatives))
    assert found == pytest.approx(auc(np.array(positives + negatives), labels))
