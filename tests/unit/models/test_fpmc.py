"""FPMC against its equations with four tables, one user and one item at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.base import TrainingBatch
from models.baselines.fpmc import FPMC
from models.checks.catalogue import ITEMS, histories, inputs_of, scores_of
from tests.unit.models.cases import LENGTH, build

WIDTH = 16


@pytest.mark.parametrize("case", ["fpmc-bias", "fpmc-full"])
def test_scores_equal_the_slow_equations_of_four_tables(case: str) -> None:
    model = build(case)
    w = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    user_item, last_item = w["users.table.weight"], w["last.weight"]
    item_user, item_last = w["items.weight"][:, :WIDTH], w["items.weight"][:, WIDTH:]
    rows, users = histories([1, 2, LENGTH, LENGTH + 3]), [3, 7, 10, 1]
    fast = scores_of(model, inputs_of(model, rows, users)).numpy()
    for place, (row, user) in enumerate(zip(rows, users, strict=True)):
        last = row["items"][-1]
        for item in range(1, ITEMS + 1):
            slow = user_item[user] @ item_user[item] + last_item[last] @ item_last[item] + w["bias"][item]
            assert fast[place, item - 1] == pytest.approx(slow, abs=1e-5)


def test_only_the_newest_behaviour_is_read() -> None:
    model = build("fpmc-bias")
    inputs = inputs_of(model, histories([LENGTH]), [2])
    other = inputs | {"items": torch.cat((torch.full((1, LENGTH - 1), 9), inputs["items"][:, -1:]), dim=1)}
    torch.testing.assert_close(scores_of(model, other), scores_of(model, inputs))


def test_an_unknown_user_still_has_the_markov_part_and_an_empty_history_the_users() -> None:
    model = build("fpmc-bias")
    assert isinstance(model, FPMC)
    with torch.no_grad():
        model.users.table.weight[0] = 50.0
        model.last.weight[0] = 50.0
    rows = histories([3, 0, 0])
    scores = scores_of(model, inputs_of(model, rows, [0, 5, 0])).detach()
    items, bias = model.items.weight.detach()[1:], model.bias.detach()[1:]
    markov = items[:, WIDTH:] @ model.last.weight.detach()[int(rows[0]["items"][-1])]
    torch.testing.assert_close(scores[0], markov + bias)
    torch.testing.assert_close(scores[1], items[:, :WIDTH] @ model.users.table.weight.detach()[5] + bias)
    torch.testing.assert_close(scores[2], bias)


def test_the_loss_is_that_of_pairs() -> None:
    model = build("fpmc-bias")
    inputs = inputs_of(model, histories([3, 5]), [1, 2])
    loss = model.loss(TrainingBatch(inputs, torch.tensor([4, 5]), torch.tensor([[6, 7], [8, 9]])))
    scores = scores_of(model, inputs).double().numpy()
    pairs = [(0, 4, 6), (0, 4, 7), (1, 5, 8), (1, 5, 9)]
    slow = [np.log1p(np.exp(scores[row, bad - 1] - scores[row, good - 1])) for row, good, bad in pairs]
    assert loss.item() == pytest.approx(np.mean(slow), rel=1e-5)
