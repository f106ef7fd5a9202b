"""The prior of new items against hand-made counts and a slow count over generated queries."""

from __future__ import annotations

import numpy as np
import pytest

from training.judging.new_items import PARTS, NewItemPrior, prior_of, rising

EVENLY = np.arange(1, PARTS + 1, dtype=np.float64)  # clicks by part: the best one has twenty times those of the worst


def test_falling_neighbours_get_their_mean() -> None:
    assert rising(np.array([1.0, 3.0, 2.0, 2.5, 0.5, 9.0])).tolist() == [1.0, 2.0, 2.0, 2.0, 2.0, 9.0]
    assert rising(np.array([3.0, 2.0, 1.0])).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("clicks", "low", "high"), [(200, 0.95, 1.0), (120, 0.55, 0.6), (20, 0.05, 0.1), (2, 0.0, 0.05)]
)
def test_new_items_stand_where_known_ones_are_clicked_as_often(clicks: int, low: float, high: float) -> None:
    prior = prior_of(EVENLY * 100, 20 * 1_000.0, clicks, 100)
    assert low <= prior.quantile <= high
    assert (prior.clicks, prior.shown) == (clicks, 100)


def test_without_new_items_in_validation_they_stand_with_the_average_known_item() -> None:
    assert prior_of(EVENLY * 100, 20 * 1_000.0, 0, 0).quantile == pytest.approx(0.5, abs=0.03)


def test_a_few_new_items_without_a_click_are_not_put_last() -> None:
    assert prior_of(EVENLY, 20 * 1_000.0, 0, 20).quantile > 0.3


def test_without_a_click_on_known_items_the_prior_is_the_middle() -> None:
    assert prior_of(np.zeros(PARTS), 0.0, 3, 9) == NewItemPrior(0.5, 3, 9)
