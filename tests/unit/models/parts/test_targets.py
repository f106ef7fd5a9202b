"""A ranking head with several targets: its loss, its score, and the weights that each user may have."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.base import NegativesError, TrainingBatch
from models.catalog import MODELS
from models.checks.catalogue import facts, histories, inputs_of
from models.parts.targets import WEIGHTS, targets_loss
from models.pyramid_mixer import PyramidMixer
from tests.unit.models.cases import VARIANTS, build

CONFIG = VARIANTS["pm-targets"][1]


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _state(model: PyramidMixer) -> dict[str, Tensor]:
    return model.encode(inputs_of(model, histories([3, 8]), [1, 2])).state


def _model() -> PyramidMixer:
    model = build("pm-targets")
    assert isinstance(model, PyramidMixer)
    return model


def test_the_loss_is_the_weighted_mean_of_cross_entropies() -> None:
    logits, outcomes = torch.tensor([[0.3, -2.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.25], [0.0, 0.0]])
    weights = [2.0, 0.5]
    for row, found in enumerate(targets_loss(logits, outcomes, torch.tensor(weights)).tolist()):
        expected = 0.0
        for target, weight in enumerate(weights):
            chance, outcome = sigma(float(logits[row, target])), float(outcomes[row, target])
            expected -= weight * (outcome * math.log(chance) + (1 - outcome) * math.log(1 - chance))
        assert found == pytest.approx(expected / 2.5, rel=1e-5)


def test_the_score_is_the_weighted_sum_of_the_chances_that_explain_it() -> None:
    model = _model()
    with torch.no_grad():
        scored = model.score(_state(model), torch.tensor([1, 2, 3]), torch.tensor([0, 1, 1]))
    assert list(scored.explanation) == ["click", "like"]
    chances = torch.stack(list(scored.explanation.values()))
    assert ((chances > 0) & (chances < 1)).all()
    torch.testing.assert_close(scored.scores, chances[0] + 0.5 * chances[1])


def test_a_users_own_weights_change_that_users_scores_only() -> None:
    model = _model()
    candidates, rows = torch.tensor([1, 2, 1, 2]), torch.tensor([0, 0, 1, 1])
    with torch.no_grad():
        state = _state(model)
        before = model.score(state, candidates, rows)
        state[WEIGHTS] = torch.tensor([[1.0, 0.5], [0.0, 3.0]])
        after = model.score(state, candidates, rows)
    assert torch.equal(after.scores[:2], before.scores[:2])
    torch.testing.assert_close(after.scores[2:], 3 * after.explanation["like"][2:])


def test_each_target_learns_its_own_outcome() -> None:
    """Users click the odd items and like the small ones: the two heads tell them apart, and so do two weightings."""
    torch.manual_seed(0)
    model = MODELS["pyramid_mixer"].build(CONFIG | {"dropout": 0.0, "side": [], "rating": False, "gap": False}, facts())
    items = torch.arange(1, 31)
    inputs = {"items": torch.ones(30, 8, dtype=torch.int64)}
    outcomes = torch.stack((items % 2, items <= 15), dim=1).float()
    optimiser = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=0.02)
    for step in range(150):
        optimiser.zero_grad()
        model.train().loss(TrainingBatch(inputs, items, labels=outcomes)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 10 == 9:
            with torch.no_grad():
                state = model.eval().encode({"items": inputs["items"][:1]}).state
                found = model.score(state, items, torch.zeros(30, dtype=torch.int64)).explanation
            if torch.equal(torch.stack((found["click"], found["like"]), dim=1) > 0.5, outcomes > 0.5):
                return
    pytest.fail("not learnt")


def test_a_target_without_a_weight_in_the_loss_moves_nothing() -> None:
    targets = {"click": {"loss": 1.0}, "like": {"loss": 0.0}}
    model = MODELS["pyramid_mixer"].build(CONFIG | {"targets": targets}, facts())
    batch = TrainingBatch(inputs_of(model, histories([3, 8]), [1, 2]), torch.tensor([1, 2]), labels=torch.ones(2, 2))
    model.loss(batch).backward()  # type: ignore[no-untyped-call]
    (last,) = [one for name, one in model.named_parameters() if name == "head.rest.3.weight"]
    assert last.grad is not None
    assert last.grad[0].abs().sum() > 0
    assert last.grad[1].abs().sum() == 0


def test_next_items_are_no_labels_for_targets() -> None:
    model = _model().train()
    batch = TrainingBatch(inputs_of(model, histories([3]), [1]), torch.tensor([1]), torch.tensor([[2, 3]]))
    with pytest.raises(NegativesError, match=r"config\.targets need impressions"):
        model.loss(batch)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head": "next_item"}, 'need head = "ranking"'),
        ({"targets": {"click": {"loss": 0.0}}}, "a loss above 0"),
        ({"targets": {"click": {"loss": -1.0}}}, "loss not below 0"),
        ({"targets": {"click": {"score": math.nan}}}, "must be finite"),
        ({"targets": {"click": {"weight": 1.0}}}, "weight"),
    ],
)
def test_targets_that_cannot_be_learnt_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MODELS["pyramid_mixer"].build(CONFIG | changes, facts())
