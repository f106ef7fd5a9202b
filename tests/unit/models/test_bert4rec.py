"""BERT4Rec against its equations, written out for one row; and where its masks fall."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from models.base import TrainingBatch
from models.baselines.bert4rec import BERT4Rec, BERT4RecConfig, cloze
from models.catalog import MODELS
from models.checks.catalogue import ITEMS, facts, histories, inputs_of, scores_of
from models.parts.objectives import full_softmax
from tests.unit.models.cases import LENGTH, build
from tests.unit.models.slow import Array, gelu, linear, norm, weights_of


def attended(w: dict[str, Array], name: str, x: list[Array], heads: int) -> list[Array]:
    queries, keys, values = ([linear(each, w, f"{name}.{part}") for each in x] for part in ("query", "key", "value"))
    d = len(x[0])
    size, out = d // heads, []
    for t, old in enumerate(x):
        parts = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            weights = np.exp([queries[t][own] @ key[own] / math.sqrt(size) for key in keys])
            weights /= weights.sum()
            parts.append(sum((a * v[own] for a, v in zip(weights, values, strict=True)), np.zeros(size)))
        mixed = norm(old + linear(np.concatenate(parts), w, f"{name}.out"), w, f"{name}.norm_attention")
        inner = linear(gelu(linear(mixed, w, f"{name}.inner.0")), w, f"{name}.inner.2")
        out.append(norm(mixed + inner, w, f"{name}.norm_inner"))
    return out


def reference(model: BERT4Rec, items: list[int]) -> Array:
    """Scores of all items after the behaviours `items`: only real slots, the mask after them."""
    w = weights_of(model)
    read = [w["items.weight"][item] for item in items[-(model.length - 1) :]] + [w["mask"]]
    first = model.length - len(read)
    x = [norm(vector + w["positions"][first + t], w, "norm") for t, vector in enumerate(read)]
    for block in range(model.config.blocks):
        x = attended(w, f"blocks.{block}", x, model.config.heads)
    u = norm(gelu(linear(x[-1], w, "transform.0")), w, "transform.2")
    return np.array([u @ w["items.weight"][item] + w["bias"][item] for item in range(1, ITEMS + 1)])


@pytest.mark.parametrize("case", ["bert4rec", "bert4rec-bias"])
def test_scores_are_those_of_the_equations(case: str) -> None:
    model = build(case)
    assert isinstance(model, BERT4Rec)
    rows = histories([0, 1, 3, LENGTH - 1, LENGTH, LENGTH + 4])
    scores = scores_of(model, inputs_of(model, rows, [0] * len(rows)))
    for got, row in zip(scores, rows, strict=True):
        np.testing.assert_allclose(got.numpy(), reference(model, row["items"].tolist()), atol=1e-4)


def test_the_mask_takes_the_place_of_the_oldest_behaviour() -> None:
    model = build("bert4rec")
    rows = histories([LENGTH, LENGTH])
    rows[1]["items"][1:] = rows[0]["items"][1:]
    rows[1]["items"][0] = rows[0]["items"][0] % ITEMS + 1
    scores = scores_of(model, inputs_of(model, rows, [0, 0]))
    assert torch.equal(scores[0], scores[1])


def test_the_mask_is_no_item() -> None:
    model = build("bert4rec")
    assert isinstance(model, BERT4Rec)
    assert model.items.num_embeddings == ITEMS + 1
    with torch.no_grad():
        assert model.score_all({"user": torch.ones(1, 16)}).shape == (1, ITEMS + 1)


def test_an_early_position_sees_a_later_one() -> None:
    model = build("bert4rec")
    assert isinstance(model, BERT4Rec)
    x = torch.randn(1, LENGTH, 16, requires_grad=True)
    real = torch.arange(LENGTH)[None] >= 2
    y = model._hidden(x, real, torch.tensor([[3]]))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert (gradient[0].abs().sum(dim=-1) > 0).tolist() == [False] * 2 + [True] * (LENGTH - 2)


def test_masks_are_the_share_of_real_slots_and_never_padding() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([1, 2, 10, 25, 50]).repeat(400)
    real = torch.arange(50) >= 50 - lengths[:, None]
    drawn = cloze(real, 0.2, 0.0)
    assert drawn.chosen.sum(dim=1).tolist() == [1, 1, 2, 5, 10] * 400
    masked = torch.zeros_like(real).scatter(1, drawn.slots, drawn.chosen)
    assert not (masked & ~real).any()
    share = masked[4::5].float().mean(dim=0)  # every slot of full rows alike, slot 0 too
    assert share.min() > 0.12
    assert share.max() < 0.28


def test_the_last_item_alone_is_masked_in_its_share_of_rows() -> None:
    torch.manual_seed(0)
    real = torch.ones(4000, 50, dtype=torch.bool)
    drawn = cloze(real, 0.2, 0.5)
    alone = drawn.chosen.sum(dim=1) == 1
    assert alone.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (drawn.slots[alone, 0] == 49).all()


def test_learning_the_last_item_alone_is_learning_what_is_served() -> None:
    model = build("bert4rec", last_share=1.0, dropout=0.0).train()
    inputs, targets = inputs_of(model, histories([0, 3, LENGTH, LENGTH + 5]), [0] * 4), torch.tensor([4, 9, 1, 30])
    expected = full_softmax(model.score_all(model.encode(inputs).state), targets)
    torch.testing.assert_close(model.loss(TrainingBatch(inputs, targets)), expected)


def test_a_masked_item_does_not_see_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every item masked, the loss knows positions only: the content of a history changes targets, not outputs."""
    model = build("bert4rec", mask_share=1.0, last_share=0.0, dropout=0.0)
    assert isinstance(model, BERT4Rec)
    seen: list[torch.Tensor] = []
    score_all = model.score_all
    monkeypatch.setattr(model, "score_all", lambda state: seen.append(state["user"]) or score_all(state))
    for seed in (1, 2):
        inputs = inputs_of(model, histories([LENGTH], seed), [0])
        model.loss(TrainingBatch(inputs, torch.tensor([seed])))
    assert len(seen[0]) == LENGTH
    by_slot = [outputs[outputs[:, 0].argsort()] for outputs in seen]
    torch.testing.assert_close(*by_slot)


def test_the_item_bias_learns_without_popularity_too() -> None:
    model = MODELS["bert4rec"].build({"length": LENGTH, "width": 16}, facts())
    assert isinstance(model, BERT4Rec)
    assert model.bias.requires_grad
    assert not model.bias.any()


@pytest.mark.parametrize("shares", [{"mask_share": 0.0}, {"mask_share": 1.5}, {"last_share": -0.1}])
def test_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="share"):
        BERT4RecConfig(**shares)  # type: ignore[arg-type]


def test_a_masked_item_does_not_compete_with_the_seen_items_of_its_row() -> None:
    model = build("bert4rec", mask_share=1.0, last_share=0.0, dropout=0.0).train()
    with torch.no_grad():
        model.items.weight.zero_()  # every score is 0
        model.bias.zero_()
    rows = torch.tensor([[0, 0, 1, 2, 3, 4, 5, 6], [0, 0, 11, 12, 13, 14, 15, 16]])
    loss = model.loss(TrainingBatch({"items": rows}, torch.tensor([7, 17]), seen=rows))
    (gradient,) = torch.autograd.grad(loss, model.bias)
    share = 1 / (ITEMS - 6)  # 14 masks, each against all items but the 6 others of its row
    expected = torch.full((ITEMS + 1,), share)
    expected[[*range(1, 8), *range(11, 18)]] = (8 * share - 1) / 14  # its own mask, and the 7 of the other row
    expected[0] = 0
    torch.testing.assert_close(gradient, expected)
