"""`training.seen`: whether the items of a row's window compete with its target, in every model's own loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.base import SequentialRecommender
from models.catalog import MODELS
from tests.unit.models.cases import LENGTH, OVERFITTING, VARIANTS
from training.data.prepare import Prepared
from training.recipe import Seen, TrainingRecipe, parse_recipe
from training.rows.loader import Loader, dataset_facts, sequence_spec
from training.rows.split import Rows


def _bias_gradients(case: str, prepared: Prepared, seen: Seen | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of every item's output bias after one batch of the loader, and the items of the rows' one window."""
    torch.manual_seed(0)
    name, config = VARIANTS[case]
    last_only: dict[str, Any] = {"last_share": 1.0} if name == "bert4rec" else {}  # else window items are targets too
    facts = dataset_facts(prepared, parse_recipe({"dataset": "small", "model": name}, "test"))
    model = MODELS[name].build(config | last_only, facts).train()
    assert isinstance(model.bias, torch.nn.Parameter)
    model.bias.requires_grad_()
    recipe = TrainingRecipe(batch=2, negatives=400, seen=seen)
    (batch,) = _loader(prepared, model).training_batches(np.random.default_rng(0), np.arange(2), recipe)
    model.loss(batch).backward()  # type: ignore[no-untyped-call]
    assert model.bias.grad is not None
    window = batch.inputs["items"].unique()
    return model.bias.grad, window[window > 0]


def _loader(prepared: Prepared, model: SequentialRecommender) -> Loader:
    """Two rows of one user with the same window and different targets, none of them in the window."""
    start = int(prepared.user_starts[0])
    stop = start + LENGTH
    window = prepared.columns["items"][start:stop]
    targets = np.setdiff1d(np.arange(1, len(prepared.items) + 1), window)[:2]
    same = [np.array([value, value]) for value in (0, start, stop)]
    times = prepared.columns["times_ms"][[stop, stop]]
    return Loader(prepared, sequence_spec(model), Rows(*same, targets, times))


@pytest.mark.parametrize("case", OVERFITTING)
def test_dropped_window_items_get_no_gradient_in_any_models_loss(case: str, prepared: Prepared) -> None:
    gradient, window = _bias_gradients(case, prepared, "drop")
    assert len(window) >= LENGTH - 2
    assert (gradient[window] == 0).all()
    assert (gradient != 0).sum() > len(window)  # all others compete


@pytest.mark.parametrize("case", OVERFITTING)
def test_kept_window_items_compete_in_every_models_loss(case: str, prepared: Prepared) -> None:
    gradient, window = _bias_gradients(case, prepared, "keep")
    if VARIANTS[case][0] == "bert4rec":  # reads one behaviour fewer: the mask takes a slot
        assert (gradient[window] != 0).sum() >= len(window) - 1
    else:
        assert (gradient[window] != 0).all()


@pytest.mark.parametrize(("case", "compete"), [("sasrec", True), ("mgnm", False), ("tgsrec-one-layer", False)])
def test_unset_keeps_them_in_the_full_softmax_and_out_of_the_negatives(
    case: str, compete: bool, prepared: Prepared
) -> None:
    gradient, window = _bias_gradients(case, prepared, None)
    assert ((gradient[window] != 0) == compete).all()
