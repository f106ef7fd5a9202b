"""The shift of new items' scores against hand-made queries and a slow search over generated ones."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.prepare import Prepared
from training.data.times import HOUR_MS
from training.judging.candidates import Lifetimes, Seen
from training.judging.new_bias import NewItemShift, learn_shift, shift_of
from training.judging.scores import FixedScores
from training.recipe import SplitRecipe
from training.rows.split import split


def clicks(on_new: int, queries: int) -> np.ndarray:
    return np.arange(queries) < on_new


def test_new_items_are_expected_to_have_as_many_clicks_as_they_had() -> None:
    gaps = np.full(2_000, -3.0)  # the model expects 4.7%
    shift = shift_of(gaps, clicks(1_000, 2_000))
    assert shift.added == pytest.approx(3.0, abs=0.01)
    assert (shift.clicks, shift.queries) == (1_000, 2_000)
    assert shift_of(gaps, clicks(4, 2_000)).added < -2


def test_a_model_that_is_right_is_not_shifted() -> None:
    assert shift_of(np.zeros(400), clicks(200, 400)).added == pytest.approx(0.0, abs=1e-3)


def test_without_queries_there_is_no_shift_and_without_clicks_it_is_finite() -> None:
    assert shift_of(np.zeros(0), clicks(0, 0)) == NewItemShift(0.0, 0, 0)
    assert -10 < shift_of(np.zeros(50), clicks(0, 50)).added < -2
    assert 2 < shift_of(np.zeros(50), clicks(50, 50)).added < 10


def test_the_shift_of_queries_is_where_their_clicks_are_likeliest(prepared: Prepared) -> None:
    rows, recipe = split(prepared, "time").valid, SplitRecipe(protocol="time")
    rng = np.random.default_rng(3)
    popularity = rng.integers(0, 4, len(prepared.items) + 1).astype(np.float32)  # a quarter of the items are new
    scores = rng.normal(size=len(popularity)).astype(np.float32) - 2.0 * (popularity == 0)
    lifetimes, seen = Lifetimes(prepared, round(recipe.alive_margin_hours * HOUR_MS)), Seen(prepared)
    candidates = lifetimes.alive(rows) & seen.unseen(rows)
    candidates[:, 0] = False
    shift = learn_shift(FixedScores(scores), prepared, recipe, rows, popularity)

    def likelihood(added: float) -> float:
        logits = np.where(candidates, scores + added * (popularity == 0), -np.inf)
        return float((logits[np.arange(len(rows.items)), rows.items] - np.log(np.exp(logits).sum(axis=1))).sum())

    values = np.arange(-1.0, 5.0, 0.02)
    best = values[np.argmax([likelihood(value) for value in values])]
    assert shift.added == pytest.approx(best, abs=0.05)
    assert shift.added > 0.5
    assert shift.queries == len(rows.items)
