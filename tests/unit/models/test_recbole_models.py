"""RecBole's own models and ours score the same where they hold the same weights, and have the same loss.

The fixture contains small models of RecBole 1.2.1: benchmarks/recbole/models_fixture.py. Three differences are meant,
and shown here: RecBole counts positions from the oldest behaviour and we from the newest, its softmax has one class
more, for padding, and its layer norms have another epsilon.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.base import DatasetFacts, SequentialRecommender, TrainingBatch
from models.catalog import MODELS

RECBOLE = json.loads((Path(__file__).parent / "recbole_models.json").read_text())
ROWS, T = RECBOLE["rows"], RECBOLE["length"]
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "GRU4Rec": ("gru4rec", {"width": 16, "hidden": 24}),
    "SASRec": ("sasrec", {"width": 16, "inner": 32}),
    "FPMC": ("fpmc", {"width": 16}),
    "BPR": ("bpr", {"width": 16}),
}
_LAYERS = {
    "query": "multi_head_attention.query",
    "key": "multi_head_attention.key",
    "value": "multi_head_attention.value",
    "out": "multi_head_attention.dense",
    "norm_attention": "multi_head_attention.LayerNorm",
    "inner.0": "feed_forward.dense_1",
    "inner.2": "feed_forward.dense_2",
    "norm_inner": "feed_forward.LayerNorm",
}


def theirs(name: str) -> dict[str, Tensor]:
    return {key: torch.tensor(weight) for key, weight in RECBOLE["models"][name]["weights"].items()}


def gru4rec(w: dict[str, Tensor]) -> dict[str, Tensor]:
    kept = {key.replace("gru_layers", "gru"): weight for key, weight in w.items() if "item" not in key}
    return kept | {"items.weight": w["item_embedding.weight"]}


def sasrec(w: dict[str, Tensor]) -> dict[str, Tensor]:
    blocks = {
        f"blocks.{block}.{mine}.{kind}": w[f"trm_encoder.layer.{block}.{recboles}.{kind}"]
        for block in range(2)
        for mine, recboles in _LAYERS.items()
        for kind in ("weight", "bias")
    }
    norm = {f"norm.{kind}": w[f"LayerNorm.{kind}"] for kind in ("weight", "bias")}
    return blocks | norm | {"items.weight": w["item_embedding.weight"], "positions": w["position_embedding.weight"]}


def fpmc(w: dict[str, Tensor]) -> dict[str, Tensor]:
    items = torch.cat((w["IU_emb.weight"], w["IL_emb.weight"]), dim=1)
    return {"users.table.weight": w["UI_emb.weight"], "last.weight": w["LI_emb.weight"], "items.weight": items}


def bpr(w: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"users.table.weight": w["user_embedding.weight"], "items.weight": w["item_embedding.weight"]}


CARRY = {"GRU4Rec": gru4rec, "SASRec": sasrec, "FPMC": fpmc, "BPR": bpr}


def ours(name: str) -> SequentialRecommender:
    """Return our model with RecBole's weights: every weight but our bias, which stays zero."""
    model, config = CONFIGS[name]
    facts = DatasetFacts(RECBOLE["items"], RECBOLE["users"], np.ones(RECBOLE["items"] + 1, dtype=np.float32))
    built = MODELS[model].build(config | {"length": T, "popularity_bias": False}, facts).eval()
    carried = CARRY[name](theirs(name))
    assert set(built.state_dict()) == set(carried) | {"bias"}
    assert sum(weight.numel() for weight in carried.values()) == sum(weight.numel() for weight in theirs(name).values())
    built.load_state_dict(carried | {"bias": built.state_dict()["bias"]})
    for layer in built.modules():
        if isinstance(layer, torch.nn.LayerNorm):
            layer.eps = 1e-12  # RecBole's; ours is torch's 1e-5
    return built


def inputs(rows: slice) -> dict[str, Tensor]:
    padded = [[0] * (T - len(history)) + history for history in ROWS["history"][rows]]
    return {"items": torch.tensor(padded), "user": torch.tensor(ROWS["user"][rows])}


@torch.no_grad()
def scores(model: SequentialRecommender, rows: slice) -> Tensor:
    return model.score_all(model.encode(inputs(rows)).state)


@pytest.mark.parametrize("name", ["GRU4Rec", "FPMC", "BPR"])
def test_scores_are_recboles(name: str) -> None:
    expected = torch.tensor(RECBOLE["models"][name]["scores"])
    torch.testing.assert_close(scores(ours(name), slice(None))[:, 1:], expected[:, 1:], rtol=1e-4, atol=1e-5)


def test_sasrecs_scores_are_recboles_where_the_history_fills_the_window() -> None:
    expected = torch.tensor(RECBOLE["models"]["SASRec"]["scores"])
    full = slice(sum(len(history) == T for history in ROWS["history"]))
    assert full.stop == 2
    torch.testing.assert_close(scores(ours("SASRec"), full)[:, 1:], expected[full, 1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("row", [2, 3])
def test_sasrecs_scores_of_a_short_history_are_recboles_once_positions_count_from_the_oldest(row: int) -> None:
    expected, model = torch.tensor(RECBOLE["models"]["SASRec"]["scores"]), ours("SASRec")
    one, length = slice(row, row + 1), len(ROWS["history"][row])
    assert not torch.allclose(scores(model, one)[:, 1:], expected[one, 1:], atol=1e-2)
    with torch.no_grad():
        positions = model.get_parameter("positions")
        positions.copy_(positions.roll(T - length, dims=0))
    torch.testing.assert_close(scores(model, one)[:, 1:], expected[one, 1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["FPMC", "BPR"])
def test_pairwise_losses_are_recboles(name: str) -> None:
    negatives = torch.tensor(ROWS["negative"])[:, None]
    batch = TrainingBatch(inputs(slice(None)), torch.tensor(ROWS["target"]), negatives)
    assert ours(name).loss(batch).item() == pytest.approx(RECBOLE["models"][name]["loss"], rel=1e-5)


def test_the_softmax_is_recboles_without_its_class_of_padding() -> None:
    expected, targets = torch.tensor(RECBOLE["models"]["GRU4Rec"]["scores"]), torch.tensor(ROWS["target"])
    assert F.cross_entropy(expected, targets).item() == pytest.approx(RECBOLE["models"]["GRU4Rec"]["loss"], rel=1e-5)
    found = ours("GRU4Rec").loss(TrainingBatch(inputs(slice(None)), targets)).item()
    assert found == pytest.approx(F.cross_entropy(expected[:, 1:], targets - 1).item(), rel=1e-4)
    assert found < RECBOLE["models"]["GRU4Rec"]["loss"]
