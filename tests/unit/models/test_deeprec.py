"""The models of the deeprec frame against their equations in plain numpy, one row at a time, without padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.base import SequentialRecommender, TrainingBatch
from tests.unit.models.cases import ITEMS, LENGTH, VARIANTS, build, histories, inputs_of, scores_of
from tests.unit.models.slow import Array, Weights, linear, weights_of

FRAME = ["a2svd"]
CASES = [case for case, (name, _) in VARIANTS.items() if name in FRAME]
LENGTHS = [0, 1, 2, 5, LENGTH]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def vector(item: int, w: Weights, side: list[str]) -> Array:
    parts = [w["vectors.items.weight"][item]]
    for place in range(len(side)):
        values = [int(v) for v in w[f"vectors.side.{place}.codes"][item] if v > 0]
        table = w[f"vectors.side.{place}.table.weight"]
        parts.append(np.mean([table[v] for v in values], axis=0) if values else np.zeros(table.shape[1]))
    return np.concatenate(parts)


def batch_norm(x: Array, w: Weights, name: str) -> Array:
    scaled = (x - w[f"{name}.running_mean"]) / np.sqrt(w[f"{name}.running_var"] + 1e-5)
    return np.asarray(scaled * w[f"{name}.weight"] + w[f"{name}.bias"])


def head(user: Array, candidate: Array, w: Weights) -> float:
    joined = np.concatenate((w["scoring.user.weight"], w["scoring.candidate.weight"]), axis=1)
    x = joined @ np.concatenate((user, candidate)) + w["scoring.user.bias"]
    x = relu(batch_norm(x, w, "scoring.norm_first"))
    x = relu(batch_norm(linear(x, w, "scoring.second"), w, "scoring.norm_second"))
    return float(linear(x, w, "scoring.out")[0])


def attended(e: list[Array], w: Weights, width: int) -> Array:
    if not e:
        return np.zeros(width)
    weights = softmax(np.array([(x @ w["attention.map"]) @ w["attention.query"] for x in e]))
    return np.asarray(sum(a * x for a, x in zip(weights, e, strict=True)))


def a2svd(items: list[int], w: Weights, config: dict[str, Any]) -> Array:
    side = config.get("side", [])
    return attended([vector(i, w, side) for i in items], w, len(vector(1, w, side)))


SLOW = {"a2svd": a2svd}


def awake(case: str) -> SequentialRecommender:
    """A model with larger vectors, and running statistics as after training."""
    model = build(case)
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for name, tensor in model.named_buffers():
            if name.endswith("running_mean"):
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
            if name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        for name, weight in model.named_parameters():
            if name.startswith("vectors"):
                weight.mul_(5)
    return model


@pytest.mark.parametrize("case", CASES)
def test_scores_equal_the_slow_equations(case: str) -> None:
    model, (name, config) = awake(case), VARIANTS[case]
    w, rows = weights_of(model), histories(LENGTHS, seed=9)
    fast = scores_of(model, inputs_of(model, rows, [0] * len(rows))).numpy()
    for place, row in enumerate(rows):
        user = SLOW[name](row["items"].tolist(), w, config)
        slow = [head(user, vector(i, w, config.get("side", [])), w) + w["bias"][i] for i in range(1, ITEMS + 1)]
        np.testing.assert_allclose(fast[place], slow, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_histories_change_scores(case: str) -> None:
    model = awake(case)
    scores = scores_of(model, inputs_of(model, histories([3, 6]), [0, 0]))
    assert not torch.allclose(scores[0], scores[1], atol=1e-3)


def reversed_history(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    model, row = awake(case), histories([6], seed=2)[0]
    backwards: dict[str, NDArray[np.int64]] = row | {"items": row["items"][::-1].copy()}
    scores = scores_of(model, inputs_of(model, [row, backwards], [0, 0]))
    return scores[0], scores[1]


def test_a2svd_is_blind_to_order() -> None:
    torch.testing.assert_close(*reversed_history("a2svd"), rtol=1e-4, atol=1e-5)


def test_batch_normalisation_goes_over_all_candidates_of_the_batch() -> None:
    model = build("a2svd").train()
    inputs = inputs_of(model, histories([3, 8]), [0, 0])
    before = model.get_buffer("scoring.norm_first.running_mean").clone()
    model.loss(TrainingBatch(inputs, torch.tensor([4, 5]), torch.tensor([[7, 8], [9, 10]])))
    with torch.no_grad():
        state, w = model.encode(inputs).state["user"], weights_of(model)
        items = torch.tensor([[4, 7, 8], [5, 9, 10]])
        shares = torch.tensor(w["vectors.items.weight"][items] @ w["scoring.candidate.weight"].T).float()
        mean = (state[:, None] + shares).flatten(0, 1).mean(dim=0)
    after = model.get_buffer("scoring.norm_first.running_mean")
    torch.testing.assert_close(after, 0.9 * before + 0.1 * mean, rtol=1e-4, atol=1e-5)
