"""The prior of new items against hand-made counts and a slow count over generated queries."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.prepare import Prepared
from training.data.times import HOUR_MS
from training.judging.candidates import Lifetimes, Seen
from training.judging.new_items import PARTS, NewItemPrior, learn_prior, prior_of, rising
from training.judging.scores import FixedScores
from training.recipe import SplitRecipe
from training.rows.split import split

EVENLY = np.arange(1, PARTS + 1, dtype=np.float64)  # clicks by part: the best one has twenty times those of the worst


def test_falling_neighbours_get_their_mean() -> None:
    assert rising(np.array([1.0, 3.0, 2.0, 2.5, 0.5, 9.0])).tolist() == [1.0, 2.0, 2.0, 2.0, 2.0, 9.0]
    assert rising(np.array([3.0, 2.0, 1.0])).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("clicks", "low", "high"), [(200, 0.95, 1.0), (120, 0.55, 0.6), (20, 0.05, 0.1), (2, 0.0, 0.05)]
)
def test_new_items_rank_where_known_ones_are_clicked_as_often(clicks: int, low: float, high: float) -> None:
    prior = prior_of(EVENLY * 100, 20 * 1_000.0, clicks, 100)
    assert low <= prior.quantile <= high
    assert (prior.clicks, prior.shown) == (clicks, 100)


def test_without_new_items_in_validation_they_rank_with_the_average_known_item() -> None:
    assert prior_of(EVENLY * 100, 20 * 1_000.0, 0, 0).quantile == pytest.approx(0.5, abs=0.03)


def test_a_few_new_items_without_a_click_are_not_put_last() -> None:
    assert prior_of(EVENLY, 20 * 1_000.0, 0, 20).quantile > 0.3


def test_without_a_click_on_known_items_the_prior_is_the_middle() -> None:
    assert prior_of(np.zeros(PARTS), 0.0, 3, 9) == NewItemPrior(0.5, 3, 9)


def test_the_prior_of_queries_equals_a_slow_count(prepared: Prepared) -> None:
    rows, recipe = split(prepared, "time").valid, SplitRecipe(protocol="time")
    rng = np.random.default_rng(3)
    popularity = rng.integers(0, 4, len(prepared.items) + 1).astype(np.float32)  # a quarter of the items are new
    scores = rng.permutation(len(popularity)).astype(np.float32)
    lifetimes, seen = Lifetimes(prepared, round(recipe.alive_margin_hours * HOUR_MS)), Seen(prepared)
    clicks, shown, new_clicks, new_shown = np.zeros(PARTS), 0, 0, 0
    for place, target in enumerate(rows.items.tolist()):
        piece = rows.take(np.array([place]))
        candidates = (lifetimes.alive(piece) & seen.unseen(piece))[0]
        listed = [item for item in range(1, len(popularity)) if candidates[item]]
        known = [item for item in listed if popularity[item] > 0]
        shown, new_shown = shown + len(known), new_shown + len(listed) - len(known)
        if popularity[target] == 0:
            new_clicks += 1
        else:
            below = sum(scores[item] < scores[target] for item in known)
            clicks[min(int(below / max(len(known) - 1, 1) * PARTS), PARTS - 1)] += 1
    assert new_clicks > 0
    found = learn_prior(FixedScores(scores), prepared, recipe, rows, popularity)
    assert found == prior_of(clicks, shown, new_clicks, new_shown)
