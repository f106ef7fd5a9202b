"""SASRec against its equations, one row and one position at a time; attention looks back only."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.baselines.sasrec import SASRec
from models.checks.catalogue import histories, inputs_of, scores_of
from tests.unit.models.cases import LENGTH, build
from tests.unit.models.slow import Array, Weights, gelu, linear, norm, weights_of


def attended(x: list[Array], place: int, w: Weights, name: str, heads: int) -> Array:
    """The sum that the position `place` gathers from itself and earlier ones."""
    query = np.split(linear(x[place], w, f"{name}.query"), heads)
    parts = []
    for head in range(heads):
        keys = [np.split(linear(y, w, f"{name}.key"), heads)[head] for y in x[: place + 1]]
        values = [np.split(linear(y, w, f"{name}.value"), heads)[head] for y in x[: place + 1]]
        weights = np.exp([query[head] @ key / np.sqrt(len(key)) for key in keys])
        parts.append(sum(weight * value for weight, value in zip(weights / weights.sum(), values, strict=True)))
    return linear(np.concatenate(parts), w, f"{name}.out")


def slow_user(model: SASRec, behaviours: Array) -> Array:
    """The user's vector from the vectors of only real behaviours."""
    w = weights_of(model)
    positions = w["positions"][model.length - len(behaviours) :]
    x = [norm(row + position, w, "norm") for row, position in zip(behaviours, positions, strict=True)]
    for number in range(model.config.blocks):
        name = f"blocks.{number}"
        mixed = [attended(x, place, w, name, model.config.heads) for place in range(len(x))]
        x = [norm(one + other, w, f"{name}.norm_attention") for one, other in zip(x, mixed, strict=True)]
        inner = [linear(gelu(linear(one, w, f"{name}.inner.0")), w, f"{name}.inner.2") for one in x]
        x = [norm(one + other, w, f"{name}.norm_inner") for one, other in zip(x, inner, strict=True)]
    return x[-1]


@pytest.mark.parametrize("case", ["sasrec", "sasrec-bias", "sasrec-side"])
def test_scores_equal_the_slow_equations(case: str) -> None:
    model = build(case)
    assert isinstance(model, SASRec)
    lengths = [1, 3, LENGTH]
    inputs = inputs_of(model, histories(lengths, seed=9), [1, 2, 3])
    fast = scores_of(model, inputs).numpy()
    with torch.no_grad():
        behaviours, table = model.items.behaviours(inputs).double().numpy(), model.items.all().double().numpy()
    for place, length in enumerate(lengths):
        slow = table[1:] @ slow_user(model, behaviours[place, LENGTH - length :])
        slow = slow + model.bias.detach().double().numpy()[1:]
        np.testing.assert_allclose(fast[place], slow, rtol=2e-4, atol=2e-5)


def test_no_position_sees_a_later_one() -> None:
    model = build("sasrec")
    assert isinstance(model, SASRec)
    x = torch.randn(1, LENGTH, 16, requires_grad=True)
    y = model.blocks[0](x, model.causal[None, None])
    (gradient,) = torch.autograd.grad(y[0, 3].sum(), x)
    assert (gradient[0].abs().sum(dim=-1) > 0).tolist() == [True] * 4 + [False] * (LENGTH - 4)


def test_the_last_position_alone_equals_the_last_of_all() -> None:
    model = build("sasrec")
    assert isinstance(model, SASRec)
    x, bias = torch.randn(2, LENGTH, 16), model.causal[None, None]
    alone = model.blocks[1](x, bias[:, :, -1:], x[:, -1:])
    torch.testing.assert_close(alone, model.blocks[1](x, bias)[:, -1:])
