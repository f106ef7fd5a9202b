"""Training losses. Symbols: B rows, I items, n negatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Sampled = Literal["softmax", "bce", "bpr"]


def full_softmax(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of targets (B,) under scores (B, I+1); padding's column 0 takes no part."""
    return F.cross_entropy(scores[:, 1:].float(), targets - 1)


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
