"""Dropout that costs little on a CPU, where torch draws one number of full precision per element.

Measured on one core, (128, 52, 128) float32, probability .2, forward: torch 8.0 ms, this 1.7 ms; it was a fifth of a
Pyramid Mixer step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ByteDropout(nn.Module):
    """nn.Dropout from one random byte per element; the probability is rounded to 1/256, and the scale fits that."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropped = min(255, round(p * 256))

    def forward(self, x: Tensor) -> Tensor:
        """Return x with elements dropped and the rest scaled up in training, x itself otherwise."""
        if not self.training or not self.dropped:
            return x
        count = x.numel()
        words = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None)  # all 64 bits
        kept = words.view(torch.uint8)[:count].view(x.shape) >= self.dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - self.dropped))


def use_byte_dropout(model: nn.Module) -> None:
    """Replace every nn.Dropout inside a model; it has no weights, so checkpoints do not change."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(parent, name, ByteDropout(child.p))
