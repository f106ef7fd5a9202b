"""Checks of `loss`. Symbols: B rows, I items, n negatives, H targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.base import InteractionLog, SequentialRecommender, Tensors, TrainingBatch
from models.checks.catalogue import ITEMS, facts, histories, inputs_of, scores_of, seed
from models.checks.subject import CheckFailedError, NotApplicableError, Subject, close, require

_SHOWN = torch.tensor([1.0, 0.0, 1.0, 0.0])
_STEPS = 16
RATES = ((0.02, 80), (0.005, 200))
"""Learning rates and steps that `ten_users_can_be_learnt_by_heart` tries."""


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def _learning(subject: Subject, **changes: Any) -> SequentialRecommender:
    model = subject.build(**changes)
    if not _learns(model):
        raise NotApplicableError("the model learns nothing")
    return model.train()


def _labels(model: SequentialRecommender) -> Tensor:
    """Return labels (B,), or shares (B, H) for a model with targets."""
    if not model.targets:
        return _SHOWN
    return torch.rand(4, len(model.targets), generator=torch.Generator().manual_seed(2))


def _batch(
    model: SequentialRecommender, rows: Sequence[int], users: Sequence[int], labels: Tensor | None
) -> TrainingBatch:
    inputs = inputs_of(model, histories(rows), users)
    return TrainingBatch(inputs, torch.tensor([1, 2, 3, 4]), torch.arange(5, 25).view(4, 5), labels)


def training_does_not_see_events_after_the_request(subject: Subject) -> None:
    """A model that reads the training log looks at the past of each row only; the target is in the log too."""
    if not subject.ready.reads_log:
        raise NotApplicableError("the model does not read the log")
    known = facts(subject.features)
    later = InteractionLog(np.array([1, 2, 3]), np.array([4, 5, 6]), np.full(3, known.log.times_ms[-1] + 10**12))
    log = InteractionLog(*(np.concatenate(columns) for columns in zip(known.log, later, strict=True)))
    both = [subject.build(one, **_without_dropout(subject)).train() for one in (known, replace(known, log=log))]
    inputs = inputs_of(both[0], histories([0, 1, 3, both[0].length]), [0, 1, 2, 3])
    before, after = (scores_of(model, inputs) for model in both)
    close(after, before, "later events change scores")


def every_weight_that_learns_gets_a_gradient(subject: Subject) -> None:
    """A weight without one was forgotten, or its part never reaches the loss; some steps, as a part may skip a few."""
    model = _learning(subject)
    labels = _labels(model) if model.targets else None
    unmoved: list[str] = []
    for _ in range(_STEPS):
        _backward(model.loss(_batch(model, [model.length, model.length, 5, 3], [1, 2, 3, 4], labels)))
        unmoved = sorted(name for name, one in model.named_parameters() if one.requires_grad and one.grad is None)
        if not unmoved:
            return
    raise CheckFailedError(f"no gradient: {', '.join(unmoved)}")


def impressions_can_be_learnt_too(subject: Subject) -> None:
    """Rows with labels: the item was shown, and clicked or not (the protocol `impressions`)."""
    model = _learning(subject)
    loss = model.loss(_batch(model, [model.length, 5, 3, 0], [1, 2, 3, 0], _labels(model)))
    require(torch.isfinite(loss), f"the loss is {loss.item()}")
    _backward(loss)
    moved = any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())
    require(moved, "every gradient is zero")


def the_loss_counts_each_row_by_its_weight(subject: Subject) -> None:
    """A row of weight 0 teaches nothing, and one weight for all rows changes nothing (`positive.weights`)."""
    model = _learning(subject)
    for module in model.modules():
        if "Norm" in type(module).__name__ and hasattr(module, "running_mean"):
            module.eval()  # statistics of a batch mix its rows
    for labels in [_labels(model)] if model.targets else [None, _labels(model)]:
        _check_weights(model, _batch(model, [model.length, model.length, 5, 3], [1, 2, 3, 4], labels))


def _check_weights(model: SequentialRecommender, batch: TrainingBatch) -> None:
    def loss(weights: list[float] | None, last: int) -> Tensor:
        targets = torch.tensor([1, 2, 3, last])
        given = None if weights is None else torch.tensor(weights)
        seed(0)  # dropout and masks
        return model.loss(batch._replace(targets=targets, weights=given)).detach()

    close(loss([1.0, 2.0, 3.0, 0.0], 4), loss([1.0, 2.0, 3.0, 0.0], 29), "a row of weight 0 changes the loss")
    close(loss([2.0, 2.0, 2.0, 2.0], 4), loss(None, 4), "one weight for all rows changes the loss")
    changed = not torch.allclose(loss([1.0, 2.0, 3.0, 9.0], 4), loss(None, 4))
    require(changed, "the loss ignores the weights of rows: see models.parts.objectives.row_mean")


def ten_users_can_be_learnt_by_heart(subject: Subject, rates: Sequence[tuple[float, int]] = RATES) -> None:
    """After some steps on ten users, `score` puts the item that came next on top for nine of them."""
    best = 0
    for rate, steps in rates:
        best = max(best, _learnt(subject, rate, steps))
        if best >= 9:
            return
    raise CheckFailedError(f"after {rates[-1][1]} steps, {best} of 10 users have their next item on top")


def _learnt(subject: Subject, rate: float, steps: int) -> int:
    """Return the most users, of those counted every ten steps, whose next item was on top; stops at nine."""
    model = _fresh(subject)
    inputs, targets = _ten_users(subject, model), torch.arange(1, 11) * 3
    others = torch.stack([torch.cat((torch.arange(1, t), torch.arange(t + 1, ITEMS + 1))) for t in targets.tolist()])
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=rate)
    best = 0
    for step in range(steps):
        optimizer.zero_grad()
        _backward(model.loss(TrainingBatch(inputs, targets, others)))
        optimizer.step()
        if step % 10 == 9:
            best = max(best, _on_top(model, inputs, targets))
            if best >= 9:
                break
    return best


def _fresh(subject: Subject) -> SequentialRecommender:
    """Return the model as training starts it, without dropout."""
    seed(0)
    model = subject.entry.build(subject.config | _without_dropout(subject), facts(subject.features)).train()
    if not _learns(model):
        raise NotApplicableError("the model learns nothing")
    if model.targets:
        raise NotApplicableError("the model learns what was shown only")
    return model


def _without_dropout(subject: Subject) -> dict[str, float]:
    return {"dropout": 0.0} if "dropout" in {field.name for field in fields(subject.entry.config)} else {}


def _learns(model: SequentialRecommender) -> bool:
    return any(weight.requires_grad for weight in model.parameters())


def _ten_users(subject: Subject, model: SequentialRecommender) -> Tensors:
    inputs = inputs_of(model, histories([6] * 10, seed=4), list(range(1, 11)))
    if "request_time" in inputs:  # at the log's end: what reads the log then sees in training what it sees in serving
        inputs["request_time"] = torch.full((10,), int(facts(subject.features).log.times_ms[-1]) + 1)
    return inputs


def _on_top(model: SequentialRecommender, inputs: Tensors, targets: Tensor) -> int:
    """Return the number of users whose target is on top; the model is back in training mode."""
    best = scores_of(model.eval(), inputs).argmax(dim=1) + 1
    model.train()
    return int((best == targets).sum())
