"""Training losses. Symbols: B rows, I items, n negatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def full_softmax(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of targets (B,) under scores (B, I+1); padding's column 0 takes no part."""
    return F.cross_entropy(scores[:, 1:].float(), targets - 1)


def sampled_softmax(logits: Tensor) -> Tensor:
    """Return the cross-entropy of each list whose first entry is the positive: (..., 1+n) -> (...)."""
    return -F.log_softmax(logits, dim=-1)[..., 0]


def binary(logits: Tensor) -> Tensor:
    """Return the summed binary cross-entropy of each list whose first entry is the positive: (..., 1+n) -> (...)."""
    labels = torch.zeros_like(logits)
    labels[..., 0] = 1.0
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(-1)
