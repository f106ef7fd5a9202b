"""MLP-Mixer against its equations, one row and one position at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.baselines.mlp_mixer import MLPMixer
from models.checks.catalogue import ITEMS, histories, inputs_of, scores_of
from tests.unit.models.cases import LENGTH, build
from tests.unit.models.slow import ACTIVATIONS, Array, Weights, linear, norm, weights_of


def net(x: Array, w: Weights, name: str, activation: str) -> Array:
    return linear(ACTIVATIONS[activation](linear(x, w, f"{name}_in")), w, f"{name}_out")


def slow_user(model: MLPMixer, items: NDArray[np.int64]) -> Array:
    """The user's vector from only real behaviours: an absent one is a zero before every mix."""
    w = weights_of(model)
    T, act = model.length, model.config.activation
    x = np.zeros((T, model.config.width))
    real = range(T - len(items), T)
    for t, item in zip(real, items, strict=True):
        x[t] = w["items.weight"][item]
    for number in range(model.config.layers):
        layer = f"layers.{number}"
        u = np.zeros_like(x)
        for t in real:
            u[t] = norm(x[t], w, f"{layer}.norm_positions")
        mixed = np.array([net(u[:, c], w, f"{layer}.positions", act) for c in range(x.shape[1])]).T
        y = np.zeros_like(x)
        for t in real:
            y[t] = x[t] + mixed[t]
            y[t] = y[t] + net(norm(y[t], w, f"{layer}.norm_channels"), w, f"{layer}.channels", act)
        x = y
    return norm(x[-1], w, "norm")


@pytest.mark.parametrize("case", ["mixer", "mixer-bias"])
def test_scores_equal_the_slow_equations(case: str) -> None:
    model = build(case)
    assert isinstance(model, MLPMixer)
    rows = histories([0, 1, 5, LENGTH], seed=9)
    fast = scores_of(model, inputs_of(model, rows, [1, 2, 3, 4])).numpy()
    table, bias = model.items.weight.detach().double().numpy(), model.bias.detach().double().numpy()
    for place, row in enumerate(rows):
        slow = table[1:] @ slow_user(model, row["items"]) + bias[1:]
        np.testing.assert_allclose(fast[place], slow, rtol=2e-4, atol=2e-5)
    assert fast.shape == (4, ITEMS)


def test_the_last_position_alone_equals_the_last_of_all() -> None:
    model = build("mixer")
    assert isinstance(model, MLPMixer)
    mask = torch.tensor([0.0] * 3 + [1.0] * (LENGTH - 3))[None, :, None]
    x = torch.randn(1, LENGTH, 16) * mask
    layer = model.layers[0]
    torch.testing.assert_close(layer(x, mask, last=True), layer(x, mask, last=False)[:, -1:])


def test_the_order_of_behaviours_counts_and_age_is_counted_from_the_newest() -> None:
    model = build("mixer")
    row = histories([5])[0]
    shifted = {name: np.concatenate((column[:1], column)) for name, column in row.items()}
    turned = {name: column[[1, 0, 2, 3, 4]] for name, column in row.items()}
    scores = scores_of(model, inputs_of(model, [row, shifted, turned], [1, 1, 1]))
    assert not torch.allclose(scores[0], scores[2], atol=1e-4)  # no set of items
    assert not torch.allclose(scores[0], scores[1], atol=1e-4)  # the oldest behaviour is read as well
