"""Training losses, and the one way from a batch to a loss. Symbols: B rows, I items, n negatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.base import MASKED, NegativesError, SequentialRecommender, Tensors, TrainingBatch

Sampled = Literal["softmax", "bce", "bpr"]
Objective = Literal["full", "softmax", "bce", "bpr"]


def row_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean of losses (B, ...), each row by its weight (B,): three rows of weight 1 count as one of 3."""
    if weights is None:
        return losses.mean()
    return (losses.flatten(1).mean(dim=1) if losses.dim() > 1 else losses) @ weights / weights.sum()


def full_softmax(scores: Tensor, targets: Tensor, seen: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of targets (B,) under scores (B, I+1), each row by its weight (B,).

    Padding's column 0 takes no part, nor do items `seen` (B, T), except the target.
    """
    if seen is not None:
        scores = without_seen(scores, targets, seen)
    return row_mean(F.cross_entropy(scores[:, 1:].float(), targets - 1, reduction="none"), weights)


def without_seen(scores: Tensor, targets: Tensor, seen: Tensor) -> Tensor:
    """Return scores (B, I+1) that are `MASKED` at items `seen` (B, T), except the target (B,)."""
    others = seen.masked_fill(seen == targets[:, None], 0)  # column 0 is padding, which takes no part anyway
    return scores.scatter(1, others, MASKED)


def sampled_softmax(logits: Tensor) -> Tensor:
    """Return the cross-entropy of each list whose first entry is the positive: (..., 1+n) -> (...)."""
    return -F.log_softmax(logits, dim=-1)[..., 0]


def bce(logits: Tensor) -> Tensor:
    """Return the summed binary cross-entropy of each list whose first entry is the positive: (..., 1+n) -> (...)."""
    labels = torch.zeros_like(logits)
    labels[..., 0] = 1.0
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(-1)


def bpr(logits: Tensor) -> Tensor:
    """Return the mean of -log sigma(positive - negative) of each list: (..., 1+n) -> (...)."""
    return -F.logsigmoid(logits[..., :1] - logits[..., 1:]).mean(-1)


SAMPLED: Final[dict[Sampled, Callable[[Tensor], Tensor]]] = {"softmax": sampled_softmax, "bce": bce, "bpr": bpr}
"""Losses of lists (..., 1+n) whose first entry is the positive, by the name that recipes use."""


def objective_loss(model: SequentialRecommender, batch: TrainingBatch, objective: Objective) -> Tensor:
    """Return the mean loss of a batch: of labelled rows, over all items ("full"), or over the target and negatives.

    Rows with labels are learnt by binary cross-entropy of the score under every objective. Every objective counts each
    row by its weight.

    Raises:
        NegativesError: the objective needs negatives, and the batch has none.
    """
    return state_loss(model, model.encode(batch.inputs).state, batch, objective)


def state_loss(model: SequentialRecommender, state: Tensors, batch: TrainingBatch, objective: Objective) -> Tensor:
    """Return `objective_loss` of users who are encoded already: for models that learn from more than their scores.

    Raises:
        NegativesError: as `objective_loss`.
    """
    if batch.labels is not None:
        logits = model.score_lists(state, batch.targets[:, None])[:, 0]
        return row_mean(
            F.binary_cross_entropy_with_logits(logits.float(), batch.labels, reduction="none"), batch.weights
        )
    if objective == "full":
        return full_softmax(model.score_all(state), batch.targets, batch.seen, batch.weights)
    if batch.negatives is None:
        name = type(model).__name__
        raise NegativesError(f"{name}: objective {objective!r} needs negatives: set training.negatives in the recipe")
    items = torch.cat((batch.targets[:, None], batch.negatives), dim=1)
    return row_mean(SAMPLED[objective](model.score_lists(state, items).float()), batch.weights)
