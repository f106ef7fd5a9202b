"""MLP4Rec against its equations, written out for one row; and what its padding and its sharing must not do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.baselines.mlp4rec import MLP4Rec
from models.checks.catalogue import ITEMS, facts, histories, inputs_of, scores_of
from tests.unit.models.cases import LENGTH, build

Array = NDArray[np.float64]
Row = dict[str, NDArray[np.int64]]


class Weights:
    """A model's weights by name, and what is made of them."""

    def __init__(self, model: MLP4Rec) -> None:
        self.config = model.config
        self.by_name = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}

    def norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean()
        scaled = centred / np.sqrt((centred**2).mean() + 1e-5)
        return np.asarray(scaled * self.by_name[f"{name}.weight"] + self.by_name[f"{name}.bias"])

    def perceptron(self, name: str, x: Array) -> Array:
        h = self.by_name[f"{name}.up.weight"] @ x + self.by_name[f"{name}.up.bias"]
        if self.config.activation == "silu":
            h = h / (1 + np.exp(-h))
        else:
            h = h * 0.5 * (1 + np.vectorize(math.erf)(h / math.sqrt(2)))
        return np.asarray(self.by_name[f"{name}.down.weight"] @ h + self.by_name[f"{name}.down.bias"])


def fields_of(w: Weights, row: Row, t: int) -> list[Array]:
    item = int(row["items"][t])
    fields = [w.by_name["items.weight"][item]]
    for place, name in enumerate(w.config.side):
        table = w.by_name[f"side.{place}.table.weight"]
        values = [value for value in facts().item_features[name][item] if value > 0]
        fields.append(np.mean([table[value] for value in values], axis=0) if values else np.zeros(table.shape[1]))
    if w.config.rating:
        fields.append(w.by_name["rating.weight"][int(row["values"][t]) // 5])
    if w.config.gap:
        seconds = (int(row["times"][t]) - int(row["times"][t - 1])) // 1000 if t else -1
        fields.append(w.by_name["gap.weight"][(seconds + 1).bit_length()])
    return fields


def reference(model: MLP4Rec, row: Row) -> Array:
    """Scores of all items: every slot computed in every layer, padding zero before each mixer along the sequence."""
    w, config = Weights(model), model.config
    row = {name: column[-config.length :] for name, column in row.items()}
    n, T, d = len(row["items"]), config.length, config.width
    fields = 1 + len(config.side) + config.rating + config.gap
    x = np.zeros((fields, T, d))
    for t in range(n):
        x[:, T - n + t] = fields_of(w, row, t)
    for step in range(config.layers):
        layer = 0 if config.share else step
        for f in range(fields):
            own = 0 if config.share else f
            u = np.zeros((T, d))
            for t in range(T - n, T):
                u[t] = w.norm(f"sequence.{layer}.{own}.norm", x[f, t])
            for c in range(d):
                x[f, :, c] += w.perceptron(f"sequence.{layer}.{own}", u[:, c])
            for t in range(T):
                name = f"channels.{layer}.{own}"
                x[f, t] += w.perceptron(name, w.norm(f"{name}.norm", x[f, t]))
        if fields > 1:
            for t in range(T):
                u = np.stack([w.norm(f"features.{layer}.norm", x[f, t]) for f in range(fields)])
                for c in range(d):
                    x[:, t, c] += w.perceptron(f"features.{layer}", u[:, c])
    user = w.norm("norm", x[0, -1] if n else np.zeros(d))
    return np.array([user @ w.by_name["items.weight"][i] + w.by_name["bias"][i] for i in range(1, ITEMS + 1)])


@pytest.mark.parametrize("case", ["mlp4rec", "mlp4rec-bias", "mlp4rec-side", "mlp4rec-own"])
def test_scores_are_those_of_the_equations(case: str) -> None:
    model = build(case)
    assert isinstance(model, MLP4Rec)
    rows = histories([0, 1, 3, LENGTH, LENGTH + 4])
    if model.config.gap:
        rows[-1] = {name: column[-LENGTH:] for name, column in rows[-1].items()}
    scores = scores_of(model, inputs_of(model, rows, [0] * len(rows)))
    for got, row in zip(scores, rows, strict=True):
        np.testing.assert_allclose(got.numpy(), reference(model, row), atol=2e-4)


def test_one_mixer_of_each_axis_serves_all_fields_and_layers() -> None:
    few, many = build("mlp4rec-side", layers=1), build("mlp4rec-side", layers=6)
    sizes = {name: weight.shape for name, weight in few.named_parameters()}
    assert sizes == {name: weight.shape for name, weight in many.named_parameters()}
    own = build("mlp4rec-own")
    assert isinstance(own, MLP4Rec)
    assert [len(list(group)) for group in own.sequence] == [5, 5]  # type: ignore[call-overload]
    assert len(own.features) == 2


def test_own_mixers_with_equal_weights_are_shared_ones() -> None:
    shared, own = build("mlp4rec-side"), build("mlp4rec-own")
    weights = shared.state_dict()
    copied = {}
    for name in own.state_dict():
        parts = name.split(".")
        if parts[0] in {"sequence", "channels"}:
            parts[1:3] = ["0", "0"]
        elif parts[0] == "features":
            parts[1] = "0"
        copied[name] = weights[".".join(parts)]
    own.load_state_dict(copied)
    inputs = inputs_of(shared, histories([0, 2, LENGTH]), [0, 0, 0])
    torch.testing.assert_close(scores_of(own, inputs), scores_of(shared, inputs))


def test_a_norms_bias_does_not_come_in_through_padding() -> None:
    """The trap of the published code: a norm turns padding's zeros into its bias, and the sequence mixer mixes it."""
    model = build("mlp4rec")
    assert isinstance(model, MLP4Rec)
    mixer = model.sequence[0][0]  # type: ignore[index]
    mask = (torch.arange(LENGTH) >= 5).float()[None, :, None]
    x = torch.randn(1, 1, LENGTH, 16)
    with torch.no_grad():
        spoilt = x + (1 - mask) * 50
        torch.testing.assert_close(mixer(x, mask)[..., 5:, :], mixer(spoilt, mask)[..., 5:, :])
        assert not torch.allclose(mixer(x)[..., 5:, :], mixer(spoilt)[..., 5:, :])


def test_the_newest_slot_alone_equals_the_newest_of_all() -> None:
    model = build("mlp4rec-side")
    assert isinstance(model, MLP4Rec)
    x, mask = torch.randn(5, 2, LENGTH, 16), torch.ones(2, LENGTH, 1)
    with torch.no_grad():
        alone = model._mixed(x, mask, 0, newest=True)
        torch.testing.assert_close(alone, model._mixed(x, mask, 0, newest=False)[:, :, -1:])


def test_without_side_fields_there_is_no_feature_mixer() -> None:
    model = build("mlp4rec")
    assert isinstance(model, MLP4Rec)
    assert len(model.features) == 0
    assert model.columns == ("items",)
