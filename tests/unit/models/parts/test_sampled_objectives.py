"""Sampled losses against plain loops, and the logQ estimate against the full softmax."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.base import NegativesError, SequentialRecommender, TrainingBatch
from models.checks.catalogue import ITEMS, histories, inputs_of
from models.parts.objectives import Objective, Sampled, gbce, sampled_losses, state_loss
from tests.unit.models.cases import build

SMALL = ["sasrec", "pm", "gru4rec", "fmlp", "mixer", "mlp4rec", "bpr-bias", "fpmc-bias", "bert4rec"]  # class A
SEVERAL = ["mgnm", "mgnm-deep", "mind", "mind-relu-soft", "mind-max", "comirec-dr", "comirec-sa"]  # class B
SHARED = torch.tensor([5, 9, 2, 9, 17])


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def plain_loss(
    objective: str, scores: list[float], target: int, draws: list[tuple[int, float]], seen: set[int]
) -> float:
    """One row's loss from the scores of all items, and draws of an item with its expected count."""
    real = [(scores[item], count) for item, count in draws if item != target and item not in seen]
    positive = scores[target]
    if objective in ("softmax", "logq"):
        shares = [math.exp(score) / (count if objective == "logq" else 1) for score, count in real]
        return -math.log(math.exp(positive) / (math.exp(positive) + sum(shares)))
    if objective == "bpr":  # a draw that takes no part is a pair without a loss
        return -sum(math.log(sigma(positive - score)) for score, _ in real) / len(draws)
    rate = draws[0][1]
    beta = rate * (0.75 * (1 - 1 / rate) + 1 / rate) if objective == "gbce" else 1.0
    return -beta * math.log(sigma(positive)) - sum(math.log(1 - sigma(score)) for score, _ in real)


@pytest.mark.parametrize("objective", ["softmax", "logq", "bce", "gbce", "bpr"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("dropped", [False, True])
def test_each_loss_equals_a_plain_loop(objective: Sampled, shared: bool, dropped: bool) -> None:
    torch.manual_seed(0)
    scores, targets = torch.randn(3, ITEMS + 1), torch.tensor([5, 6, 7])
    negatives = SHARED if shared else torch.tensor([[5, 9, 2], [1, 2, 6], [9, 9, 30]])
    counts = torch.full((1,), 0.2) if shared else torch.tensor([[0.2], [0.3], [0.4]])
    seen = torch.tensor([[0, 0, 2], [0, 2, 6], [9, 30, 1]]) if dropped else None
    batch = TrainingBatch({}, targets, negatives, seen=seen, log_counts=counts.log())

    def score(items: Tensor) -> Tensor:
        return scores[:, items] if items.dim() == 1 else scores.gather(1, items)

    found = sampled_losses(batch, objective, score)
    for row in range(3):
        items = (negatives if shared else negatives[row]).tolist()
        draws = [(item, float(counts.flatten()[0 if shared else row])) for item in items]
        out = set(seen[row].tolist()) if seen is not None else set()
        expected = plain_loss(objective, scores[row].tolist(), int(targets[row]), draws, out)
        assert found[row].item() == pytest.approx(expected, rel=1e-5)


def test_gbce_is_bce_without_calibration_and_weighs_the_target_by_the_rate_with_all_of_it() -> None:
    logits, rate = torch.tensor([2.0, -1.0, 0.5]), torch.tensor(0.1)
    positive, negative = -math.log(sigma(2)), -math.log(1 - sigma(-1)) - math.log(1 - sigma(0.5))
    assert gbce(logits, rate, 0.0).item() == pytest.approx(positive + negative)
    assert gbce(logits, rate, 1.0).item() == pytest.approx(0.1 * positive + negative)


def test_losses_stay_finite_where_every_negative_is_left_out() -> None:
    batch = TrainingBatch(
        {}, torch.tensor([4]), torch.tensor([4, 3]), seen=torch.tensor([[0, 3]]), log_counts=torch.zeros(1)
    )
    for objective in ("softmax", "logq", "bce", "gbce", "bpr"):
        scores = torch.zeros(1, ITEMS + 1, requires_grad=True)
        score = lambda items, scores=scores: scores[:, items] if items.dim() == 1 else scores.gather(1, items)  # noqa: E731
        loss = sampled_losses(batch, objective, score).sum()
        loss.backward()
        assert torch.isfinite(loss)
        assert scores.grad is not None
        assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("case", [*SMALL, *SEVERAL, "tgsrec", "caser", "sli-rec", "surge-bias", "mimn-bias"])
def test_shared_negatives_score_as_the_same_list_for_each_row(case: str) -> None:
    model = build(case)
    with torch.no_grad():
        state = model.encode(inputs_of(model, histories([3, 8, 0]), [1, 2, 0])).state
        lists = model.score_lists(state, SHARED.repeat(3, 1))
        torch.testing.assert_close(model.score_shared(state, SHARED), lists, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", ["softmax", "logq", "bce", "gbce", "bpr"])
@pytest.mark.parametrize("case", [*SMALL, *SEVERAL])
def test_every_model_of_classes_a_and_b_learns_from_every_sampled_loss(case: str, objective: str) -> None:
    """Shared negatives give the loss and the gradients of the same negatives listed for each row."""
    shared = _gradients(case, objective, SHARED, torch.full((1,), -1.0))
    listed = _gradients(case, objective, SHARED.repeat(4, 1), torch.full((4, 1), -1.0))
    assert shared[0] == pytest.approx(listed[0], rel=1e-5)
    torch.testing.assert_close(shared[1], listed[1], rtol=1e-3, atol=1e-5)
    assert shared[1].abs().sum() > 0


def _gradients(case: str, objective: str, negatives: Tensor, log_counts: Tensor) -> tuple[float, Tensor]:
    model = build(case, objective=objective, dropout=0.0).train()
    torch.manual_seed(1)  # BERT4Rec's masks
    inputs = inputs_of(model, histories([8, 8, 5, 3]), [1, 2, 3, 4])
    loss = model.loss(TrainingBatch(inputs, torch.tensor([1, 2, 3, 4]), negatives, log_counts=log_counts))
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
    return loss.item(), torch.cat(gradients)


def test_a_loss_that_corrects_its_draws_needs_their_counts() -> None:
    model = build("sasrec", objective="logq").train()
    inputs = inputs_of(model, histories([8]), [1])
    with pytest.raises(NegativesError, match="how the negatives were drawn"):
        model.loss(TrainingBatch(inputs, torch.tensor([1]), SHARED))


DRAWS = 4_000


@pytest.mark.parametrize("source", ["row", "shared", "batch", "mixed"])
@pytest.mark.parametrize("dropped", [False, True])
def test_the_logq_gradient_becomes_the_full_softmaxs(source: str, dropped: bool) -> None:
    """With many draws the estimate's gradient is the full one; without the correction it is not."""
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.normal(0, 1, (1, ITEMS + 1))).float()
    scores[0, 3] = 3.0
    scores.requires_grad_()
    target, seen = torch.tensor([3]), torch.tensor([[0, 3, 8, 9]]) if dropped else None
    drawn, counts = _draw(rng, source, [3, 8, 9] if dropped else [3])
    batch = TrainingBatch({}, target, drawn, seen=seen, log_counts=counts)

    def gradient(objective: Objective) -> Tensor:
        model = _Scores(scores)
        (found,) = torch.autograd.grad(state_loss(model, {"user": scores}, batch, objective), scores)
        return found

    full = gradient("full")
    error = (gradient("logq") - full).norm() / full.norm()
    assert error < 0.05
    assert (gradient("softmax") - full).norm() / full.norm() > 0.1


def _draw(rng: np.random.Generator, source: str, out: list[int]) -> tuple[Tensor, Tensor]:
    """Draws of one row, and the log of their expected counts, as training/rows/draws.py defines them."""
    chances = rng.dirichlet(np.ones(ITEMS))
    if source == "row":
        allowed = np.setdiff1d(np.arange(1, ITEMS + 1), out)
        drawn = rng.choice(allowed, DRAWS)
        return torch.from_numpy(drawn)[None], torch.full((1, 1), math.log(DRAWS / len(allowed)))
    uniform = rng.integers(1, ITEMS + 1, DRAWS if source != "batch" else 0)
    others = rng.choice(np.arange(1, ITEMS + 1), DRAWS if source != "shared" else 0, p=chances)
    items = np.concatenate((others, uniform))
    counts = len(others) * chances[items - 1] + len(uniform) / ITEMS
    return torch.from_numpy(items), torch.from_numpy(np.log(counts)).float()


class _Scores(SequentialRecommender):
    """A model whose scores are given."""

    serving_class = "A"

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def score_all(self, state: dict[str, Tensor]) -> Tensor:
        return self.scores

    def score_lists(self, state: dict[str, Tensor], candidates: Tensor) -> Tensor:
        return self.scores.gather(1, candidates)

    def score_shared(self, state: dict[str, Tensor], items: Tensor) -> Tensor:
        return self.scores[:, items]
