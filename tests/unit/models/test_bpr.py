"""BPR against its equations, one user and one item at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.base import TrainingBatch, log_popularity
from models.baselines.bpr import BPR
from models.catalog import MODELS
from models.checks.catalogue import ITEMS, facts, histories, inputs_of, scores_of
from tests.unit.models.cases import LENGTH, VARIANTS, build


def fresh(**config: object) -> BPR:
    torch.manual_seed(0)
    model = MODELS["bpr"].build(VARIANTS["bpr-bias"][1] | config, facts())
    assert isinstance(model, BPR)
    return model


@pytest.mark.parametrize("case", ["bpr-bias", "bpr-plain"])
def test_scores_equal_the_slow_equations(case: str) -> None:
    model = build(case)
    w = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    users = [3, 7, 10]
    fast = scores_of(model, inputs_of(model, histories([0, 2, LENGTH]), users)).numpy()
    for row, user in enumerate(users):
        for item in range(1, ITEMS + 1):
            slow = sum(w["users.table.weight"][user][c] * w["items.weight"][item][c] for c in range(16))
            assert fast[row, item - 1] == pytest.approx(slow + w["bias"][item], abs=1e-5)


def test_an_unknown_user_is_ranked_by_the_bias_alone() -> None:
    model = build("bpr-bias")
    assert isinstance(model, BPR)
    with torch.no_grad():
        model.users.table.weight[0] = 50.0
    scores = scores_of(model, inputs_of(model, histories([LENGTH]), [0]))[0]
    torch.testing.assert_close(scores, model.bias.detach()[1:])


def test_behaviours_change_no_score() -> None:
    model = build("bpr-bias")
    scores = scores_of(model, inputs_of(model, histories([0, 3, LENGTH]), [4, 4, 4]))
    torch.testing.assert_close(scores[1:], scores[:1].repeat(2, 1))


def test_the_loss_is_that_of_pairs() -> None:
    model = fresh()
    inputs = inputs_of(model, histories([3, 5]), [1, 2])
    loss = model.loss(TrainingBatch(inputs, torch.tensor([4, 5]), torch.tensor([[6, 7], [8, 9]])))
    scores = scores_of(model, inputs).double().numpy()
    pairs = [(0, 4, 6), (0, 4, 7), (1, 5, 8), (1, 5, 9)]
    slow = [np.log1p(np.exp(scores[row, bad - 1] - scores[row, good - 1])) for row, good, bad in pairs]
    assert loss.item() == pytest.approx(np.mean(slow), rel=1e-5)


def test_the_bias_can_be_left_out() -> None:
    torch.testing.assert_close(fresh().bias[1:], log_popularity(facts().item_popularity)[1:])
    silent = fresh(popularity_bias=False).bias
    assert not silent.requires_grad
    assert not silent.any()


def test_tables_start_xavier_normal() -> None:
    model = fresh(width=512)
    assert model.users.table.weight.std().item() == pytest.approx((2 / (11 + 512)) ** 0.5, rel=0.1)
    assert model.items.weight[1:].std().item() == pytest.approx((2 / (ITEMS + 1 + 512)) ** 0.5, rel=0.1)
