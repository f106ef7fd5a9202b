"""Training losses, and the one way from a batch to a loss. Symbols: B rows, T length, I items, n negatives.

| Objective | Loss of one row |
| --- | --- |
| full | cross-entropy over all items |
| softmax | cross-entropy over the target and its negatives |
| logq | the same, each negative's score less the log of its expected number of draws: an estimate of `full` |
| bce | binary cross-entropy of the target and each negative, summed |
| gbce | bce with the target's term times beta (Petrov and Macdonald, RecSys 2023, https://arxiv.org/abs/2308.07192) |
| bpr | -log sigma(target - negative), a mean over negatives |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.base import MASKED, NegativesError, SequentialRecommender, Tensors, TrainingBatch

Sampled = Literal["softmax", "logq", "bce", "gbce", "bpr"]
Objective = Literal["full", "softmax", "logq", "bce", "gbce", "bpr"]


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


def gbce(logits: Tensor, rate: Tensor, calibration: float) -> Tensor:
    """Return `bce` with the positive's term times beta = rate (t (1 - 1/rate) + 1/rate): (..., 1+n) -> (...).

    Args:
        logits: as `bce`.
        rate: share of the items that are drawn, which broadcasts to (...).
        calibration: t; 0 is `bce`, 1 corrects the overconfidence of sampled negatives fully.
    """
    beta = 1 - calibration * (1 - rate)
    return bce(logits) + (beta - 1) * F.softplus(-logits[..., 0])


def bpr(logits: Tensor) -> Tensor:
    """Return the mean of -log sigma(positive - negative) of each list: (..., 1+n) -> (...)."""
    return -F.logsigmoid(logits[..., :1] - logits[..., 1:]).mean(-1)


SAMPLED: Final[dict[Sampled, Callable[[Tensor], Tensor]]] = {
    "softmax": sampled_softmax, "logq": sampled_softmax, "bce": bce, "bpr": bpr,
}  # fmt: skip
"""Losses of lists (..., 1+n) whose first entry is the positive, by the name that recipes use, but for `gbce`."""


def objective_loss(model: SequentialRecommender, batch: TrainingBatch, objective: Objective) -> Tensor:
    """Return the mean loss of a batch: of labelled rows, over all items ("full"), or over the target and negatives.

    Rows with labels are learnt by binary cross-entropy of the score under every objective. Every objective counts each
    row by its weight.

    Raises:
        NegativesError: the objective needs negatives, and the batch has none.
    """
    return state_loss(model, model.state_of(batch.inputs), batch, objective)


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

    def score(items: Tensor) -> Tensor:
        return model.score_shared(state, items) if items.dim() == 1 else model.score_lists(state, items)

    together = model.serving_class not in ("A", "B")  # such a model may normalise over all candidates of a batch
    losses = sampled_losses(batch, objective, score, together=together)
    return row_mean(losses, batch.weights)


def sampled_losses(
    batch: TrainingBatch, objective: Sampled, score: Callable[[Tensor], Tensor], *, together: bool = False
) -> Tensor:
    """Return the loss of each target against its negatives: (B, ...).

    A negative that is the row's target, or one of its seen items, takes no part.

    Args:
        batch: rows with negatives.
        objective: the loss.
        score: scores lists of items (B, N), or one list (N,) for all rows: (B, ..., N).
        together: whether targets and negatives must be scored in one call.

    Raises:
        NegativesError: the batch has no negatives.
    """
    if batch.negatives is None:
        raise NegativesError(f"objective {objective!r} needs negatives: set training.negatives in the recipe")
    negatives = batch.negatives.expand(len(batch.targets), -1) if batch.negatives.dim() == 1 else batch.negatives
    if batch.negatives.dim() == 1 and not together:
        logits = torch.cat((score(batch.targets[:, None]), score(batch.negatives)), dim=-1).float()
    else:
        logits = score(torch.cat((batch.targets[:, None], negatives), dim=1)).float()
    if objective == "logq":
        logits = torch.cat((logits[..., :1], logits[..., 1:] - _aligned(_log_counts(batch), logits)), dim=-1)
    absent = F.pad(_absent(batch, negatives), (1, 0))  # the target itself takes part
    logits = logits.masked_fill(_aligned(absent, logits), MASKED)
    if objective == "gbce":
        rate = _log_counts(batch)[..., :1].exp()
        return gbce(logits, _aligned(rate, logits)[..., 0], batch.calibration)
    return SAMPLED[objective](logits)


def _absent(batch: TrainingBatch, negatives: Tensor) -> Tensor:
    """Return which negatives (B, n) take no part."""
    absent = negatives == batch.targets[:, None]
    if batch.seen is None:
        return absent
    seen = batch.seen.sort(dim=1).values
    places = torch.searchsorted(seen, negatives.contiguous()).clamp_max(seen.shape[1] - 1)
    return absent | (seen.gather(1, places) == negatives)


def _aligned(values: Tensor, logits: Tensor) -> Tensor:
    """Give values (B, n) the axes that logits (B, ..., n) have between both; values (n,) fit as they are."""
    return values if values.dim() == 1 else values.view(len(values), *(1,) * (logits.dim() - 2), -1)


def _log_counts(batch: TrainingBatch) -> Tensor:
    if batch.log_counts is None:
        raise NegativesError("the objective needs to know how the negatives were drawn: TrainingBatch.log_counts")
    return batch.log_counts
