"""Negatives of a training batch: where they come from, and the expected number of draws that each reports."""

from __future__ import annotations

import numpy as np
import pytest

from contract.bundle.tensors import SequenceSpec
from training.data.prepare import Prepared
from training.recipe import TrainingRecipe
from training.rows.draws import Draws
from training.rows.loader import Loader
from training.rows.split import leave_last_out

ITEMS = 12
CHANCES = np.array([0, *np.arange(1, ITEMS + 1) / 78])
WINDOW = np.array([[0, 1, 2], [0, 0, 3]])
TARGETS = np.array([3, 5])


def _counted(recipe: TrainingRecipe, times: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each item was drawn for the first of 41 rows in `times` batches, and the count that it was given."""
    rng, drawn, given = np.random.default_rng(0), np.zeros(ITEMS + 1), np.zeros(ITEMS + 1)
    draws, window = Draws(recipe, CHANCES), np.zeros((41, 3), dtype=np.int64)
    window[0] = WINDOW[0]
    for _ in range(times):
        targets = np.concatenate(([3], rng.choice(ITEMS + 1, 40, p=CHANCES)))
        items, log_counts = draws(rng, window, targets)
        assert items is not None
        assert log_counts is not None
        listed, logs = (one[0] if one.dim() == 2 else one for one in (items, log_counts))
        counts = np.broadcast_to(logs.exp().numpy(), listed.shape)
        own = 1 if recipe.negatives_from in ("batch", "mixed") else 0  # its own target is not drawn
        np.add.at(drawn, listed.numpy()[own:], 1)
        given[listed.numpy()] = counts
    return drawn / times, given


@pytest.mark.parametrize(
    "recipe",
    [
        TrainingRecipe(negatives=40),
        TrainingRecipe(negatives=40, seen="keep"),
        TrainingRecipe(negatives=40, negatives_from="shared"),
        TrainingRecipe(negatives_from="batch"),
        TrainingRecipe(negatives=40, negatives_from="mixed"),
    ],
    ids=["row", "row-keep", "shared", "batch", "mixed"],
)
def test_items_are_drawn_as_often_as_their_counts_say(recipe: TrainingRecipe) -> None:
    """Row 0 has target 3 and window 1, 2; the list without its own target, at the front of the batch's."""
    drawn, given = _counted(recipe, 1_000)
    met = drawn > 0
    np.testing.assert_allclose(drawn[met], given[met], rtol=0.12)
    absent = set(np.flatnonzero(~met)) - {0}
    assert absent == (
        {1, 2, 3}
        if recipe.negatives_from == "row" and recipe.seen is None
        else {3}
        if recipe.negatives_from == "row"
        else set()
    )


def test_a_batch_lists_its_own_targets_first() -> None:
    draws = Draws(TrainingRecipe(negatives=3, negatives_from="mixed"), CHANCES)
    items, log_counts = draws(np.random.default_rng(0), WINDOW, TARGETS)
    assert items is not None
    assert log_counts is not None
    assert items[:2].tolist() == [3, 5]
    assert items.shape == log_counts.shape == (5,)


@pytest.mark.parametrize("balanced", [False, True])
def test_the_loader_counts_targets_by_the_rows_that_it_draws(prepared: Prepared, balanced: bool) -> None:
    loader = Loader(prepared, SequenceSpec(length=5), leave_last_out(prepared).train)
    recipe = TrainingRecipe(batch=64, negatives_from="batch", balanced=balanced)
    order = loader.order(np.random.default_rng(0), 64, balanced)
    (batch,) = loader.training_batches(np.random.default_rng(0), order, recipe)
    weights = loader.row_weights() if balanced else np.full(len(loader), 1 / len(loader))
    targets = loader.targets(np.arange(len(loader)))
    assert batch.log_counts is not None
    expected = [63 * weights[targets == target].sum() for target in batch.targets.tolist()]
    np.testing.assert_allclose(batch.log_counts.exp().numpy(), expected, rtol=1e-5)
