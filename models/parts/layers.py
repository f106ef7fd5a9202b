"""Layers of three or more models. Symbols: B rows, T length, I items, d width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import DatasetFacts, log_popularity
from models.parts.item_feature import field_table


def item_table(facts: DatasetFacts, width: int, std: float) -> nn.Embedding:
    """Return a table (I+1, d), normal with this deviation; the row of padding is zero and stays so."""
    return field_table(facts.item_count + 1, width, std)


def item_bias(facts: DatasetFacts, enabled: bool, shift: float = 0.0) -> nn.Parameter:
    """Return a bias by item (I+1,) that starts at log popularity plus `shift`; zeros that do not learn where disabled.

    On data with few interactions per user this start is worth more than most of an architecture, so every trained model
    offers it.
    """
    start = log_popularity(facts.item_popularity) + shift if enabled else torch.zeros(facts.item_count + 1)
    return nn.Parameter(start, requires_grad=enabled)


class Dropout(nn.Module):
    """Dropout whose mask on a CPU is cut from whole random words: one byte decides, so the rate is a multiple of 1/256.

    Drawing one float per element was a third of a training step of Pyramid Mixer; this costs a quarter of it.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= round(rate * 256) < 256:
            raise ValueError(f"dropout {rate}: must be at least 0 and less than 1")
        self.rate = rate
        self._dropped = round(rate * 256)  # byte values that drop

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries in training, and scale the rest so that the mean stays."""
        if not self.training or self.rate == 0.0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape).ge_(self._dropped)  # bytes: bools are far slower
        return x * kept.to(x.dtype).mul_(256 / (256 - self._dropped))

    def extra_repr(self) -> str:
        """Return what `print` shows."""
        return f"rate={self.rate}"


class AttentionBlock(nn.Module):
    """Multi-head attention and a feed-forward net, each with dropout, a residual and a norm after it."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads {heads}: must divide width = {width}")
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.inner = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.norm_attention, self.norm_inner = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor, asked: Tensor | None = None) -> Tensor:
        """Map the positions that are read: all of x (B, T, d), or `asked` (B, A, d), those of x that the caller needs.

        `bias`, added to the logits, is (B, 1, A, T), or (B, 1, 1, T) where every position looks at the same ones.
        """
        asked = x if asked is None else asked
        q, k, v = (self._split(layer(y)) for layer, y in ((self.query, asked), (self.key, x), (self.value, x)))
        weights = (q @ k.transpose(-1, -2) / (q.shape[-1] ** 0.5) + bias).softmax(dim=-1)
        mixed = (self.dropout(weights) @ v).transpose(1, 2).flatten(2)
        asked = self.norm_attention(asked + self.dropout(self.out(mixed)))
        return torch.as_tensor(self.norm_inner(asked + self.dropout(self.inner(asked))))

    def _split(self, x: Tensor) -> Tensor:
        B, T, d = x.shape
        return x.view(B, T, self.heads, d // self.heads).transpose(1, 2)


def start_small(module: nn.Module, std: float = 0.02) -> None:
    """Start every linear layer as BERT's do: normal weights of this deviation, no bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
