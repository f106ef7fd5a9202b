"""Pyramid Mixer against a second, slow implementation of the equations in ADR 0010: one row, real behaviours only."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.checks.catalogue import ITEMS, facts, histories, inputs_of, scores_of
from models.pyramid_mixer import PyramidMixer, PyramidMixerConfig
from tests.unit.models.cases import LENGTH, build

Array = NDArray[np.float64]
Row = dict[str, NDArray[np.int64]]
CASES = [
    "pm", "pm-bias", "pm-two-layers", "pm-side", "pm-side-grouped", "pm-window-concat", "pm-full-rank",
    "pm-no-behaviour", "pm-no-feature", "pm-mean-fusion", "pm-no-pyramid", "pm-no-period",
]  # fmt: skip


class Weights:
    """A model's weights by name, and the parts that are made of them."""

    def __init__(self, model: PyramidMixer) -> None:
        self.by_name = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
        self.config: PyramidMixerConfig = model.config

    def __getitem__(self, name: str) -> Array:
        return self.by_name[name]

    def has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.by_name)

    def low_rank(self, name: str, x: Array, group: int | None = None) -> Array:
        for place in range(2):
            factor = self.by_name.get(f"{name}.factors.{place}")
            if factor is not None:
                x = x @ (factor if group is None else factor[group])
        bias = self[f"{name}.bias"]
        return np.asarray(x + (bias if group is None else bias[group, 0]))

    def linear(self, name: str, x: Array) -> Array:
        return np.asarray(x @ self[f"{name}.weight"].T + self.by_name.get(f"{name}.bias", 0.0))

    def norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean()
        return np.asarray(centred / np.sqrt((centred**2).mean() + 1e-5) * self[f"{name}.weight"] + self[f"{name}.bias"])

    def activation(self, x: Array) -> Array:
        if self.config.activation == "silu":
            return np.asarray(x / (1 + np.exp(-x)))
        return np.asarray(x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))


def side_vector(w: Weights, name: str, item: int) -> Array:
    table = w[f"fields.side.{w.config.side.index(name)}.table.weight"]
    values = [value for value in facts().item_features[name][item] if value > 0]
    return np.asarray(np.mean([table[value] for value in values], axis=0) if values else np.zeros(table.shape[1]))


def behaviour(w: Weights, row: Row, t: int) -> Array:
    """The fields of one behaviour side by side."""
    item = int(row["items"][t])
    fields = [side_vector(w, name, item) for name in w.config.side]
    if w.config.rating:
        fields.append(w["fields.rating.weight"][int(row["values"][t]) // 5])
    if w.config.gap:
        seconds = (int(row["times"][t]) - int(row["times"][t - 1])) // 1000 if t else -1
        fields.append(w["fields.gap.weight"][(seconds + 1).bit_length()])
    if w.has("fields.group"):
        fields = [w.linear("fields.group", np.concatenate(fields))]
    return np.concatenate([w["fields.items.weight"][item], *fields])


def mixer_layer(w: Weights, name: str, x: Array, real: list[int], fields: int) -> Array:
    length, channels = x.shape
    d = channels // fields
    u = np.zeros_like(x)
    for t in real:
        u[t] = w.norm(f"{name}.norm", x[t])
    across = np.zeros_like(x)
    if w.has(f"{name}.behaviour."):
        for f in range(fields):
            for c in range(f * d, (f + 1) * d):
                hidden = w.activation(w.low_rank(f"{name}.behaviour.up", u[:, c], f))
                across[:, c] = w.low_rank(f"{name}.behaviour.down", hidden, f)
    mixed = np.zeros_like(x)
    for t in real:
        branches = [across[t]] if w.has(f"{name}.behaviour.") else []
        if w.has(f"{name}.feature."):
            hidden = w.activation(w.low_rank(f"{name}.feature.up", u[t]))
            branches.append(w.low_rank(f"{name}.feature.down", hidden))
        if w.has(f"{name}.gate."):
            g = 1 / (1 + np.exp(-w.low_rank(f"{name}.gate", np.concatenate(branches))))
            mixed[t] = g * branches[0] + (1 - g) * branches[1]
        else:
            mixed[t] = np.mean(branches, axis=0)
    assert mixed.shape == (length, channels)
    return x + mixed


def halve(w: Weights, name: str, x: Array, real: list[int]) -> tuple[Array, list[int]]:
    halved, kept = np.zeros((len(x) // 2, x.shape[1])), sorted({t // 2 for t in real})
    for j in kept:
        mean = np.mean([x[t] for t in (2 * j, 2 * j + 1) if t in real], axis=0)
        halved[j] = mean + w.low_rank(f"{name}.map", np.concatenate((x[2 * j], x[2 * j + 1])))
    return halved, kept


def scales(w: Weights, x: Array, real: list[int], fields: int, periods: int) -> list[tuple[Array, list[int]]]:
    done: list[tuple[Array, list[int]]] = []
    for s in range(periods):
        if w.config.pyramid == "window":
            cut = len(x) - (len(x) >> (periods - 1 - s))
            y, rest = x[cut:], [t - cut for t in real if t >= cut]
        else:
            y, rest = halve(w, f"halvings.{s - 1}", *done[-1]) if s else (x, real)
        for layer in range(w.config.layers):
            y = mixer_layer(w, f"scales.{s}.{layer}", y, rest, fields)
        done.append((y, rest))
    return done


def cross_period(w: Weights, done: list[tuple[Array, list[int]]]) -> tuple[Array, Array | None]:
    h = []
    for s, (x, real) in enumerate(done):
        energy = np.array(
            [w.linear(f"periods.attend.{s}", np.tanh(w.linear(f"periods.inner.{s}", x[t])))[0] for t in real]
        )
        a = np.exp(energy - energy.max())
        pooled = sum((weight * x[t] for weight, t in zip(a / a.sum(), real, strict=True)), np.zeros(x.shape[1]))
        h.append(w.linear(f"periods.out.{s}", np.concatenate((pooled, x[-1]))))
    H = np.array(h)
    normed = np.array([w.norm("periods.norm_periods", one) for one in H])
    H = H + np.array([mlp(w, "periods.periods", column) for column in normed.T]).T
    H = H + np.array([mlp(w, "periods.channels", w.norm("periods.norm_channels", one)) for one in H])
    if w.has("periods.concat"):
        return w.norm("periods.norm", w.linear("periods.concat", H.ravel())), None
    beta = np.exp([w.linear("periods.weigh", one)[0] for one in H])
    beta = beta / beta.sum()
    return w.norm("periods.norm", beta @ H), beta


def mlp(w: Weights, name: str, x: Array) -> Array:
    return w.linear(f"{name}.2", w.activation(w.linear(f"{name}.0", x)))


def slow(model: PyramidMixer, row: Row) -> tuple[Array, Array | None]:
    """Scores of every item and the periods' weights, of one row with at least one behaviour."""
    w = Weights(model)
    row = {name: column[-LENGTH:] for name, column in row.items()}
    n = len(row["items"])
    real = list(range(LENGTH - n, LENGTH))
    x = np.zeros((LENGTH, model.norm.weight.shape[0]))
    for t in range(n):
        x[real[t]] = w.norm("norm", behaviour(w, row, t))
    done = scales(w, x, real, model.fields.count, model.config.periods)
    beta = None
    if model.config.cross_period:
        u, beta = cross_period(w, done)
    else:
        u = w.norm("last.1", w.linear("last.0", done[0][0][-1]))
    scores = []
    for item in range(1, ITEMS + 1):
        e = w["fields.items.weight"][item]
        if w.has("fields.out_map"):
            e = e + w.linear(
                "fields.out_map", np.concatenate([side_vector(w, name, item) for name in model.config.side])
            )
        scores.append(u @ e + w["bias"][item])
    return np.array(scores), beta


@pytest.mark.parametrize("case", CASES)
def test_scores_and_period_weights_equal_the_slow_equations(case: str) -> None:
    model = build(case)
    assert isinstance(model, PyramidMixer)
    with torch.no_grad():
        for weight in model.parameters():  # far from the start: biases and norms too large to hide
            if weight.requires_grad:
                weight.add_(0.2 * torch.randn(weight.shape))
        model.fields.items.weight[0] = 0
        for layer in model.fields.modules():
            if isinstance(layer, torch.nn.Embedding):
                layer.weight[0] = 0
    rows = histories([1, 2, 5, LENGTH, LENGTH + 3], seed=2)
    inputs = inputs_of(model, rows, [0] * len(rows))
    fast = scores_of(model, inputs).numpy()
    explained = model.encode(inputs).explanation
    for place, row in enumerate(rows):
        scores, beta = slow(model, row)
        np.testing.assert_allclose(fast[place], scores, rtol=1e-3, atol=1e-3)
        if beta is not None:
            np.testing.assert_allclose(explained["period_weights"][place].detach().numpy(), beta, atol=1e-4)
