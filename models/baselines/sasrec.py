"""SASRec: causal self-attention over the sequence, against all items.

Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, https://arxiv.org/abs/1808.09781, in the
form of RecBole's `sasrec` (https://github.com/RUCAIBox/RecBole): post-norm blocks, learnt positions, full softmax at
the last position of every prefix.

Departures from the original: no binary cross-entropy at every position, no pre-norm on the query, no square-root
scaling. Positions are indexed by recency (the last slot is always the newest behaviour), padded keys are masked, and
the last block computes the last position alone, which is the only one read. Side information is an addition of ours,
off by default.

Symbols: B rows, T length, d width, h heads, M flat candidates, I items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.base import (
    MASKED,
    DatasetFacts,
    Encoded,
    Scored,
    SequentialRecommender,
    ServingClass,
    Tensors,
    TrainingBatch,
)
from models.features import ItemVectors, SideFields
from models.layers import Dropout, item_bias
from models.objectives import Objective, objective_loss


@dataclass(frozen=True)
class SASRecConfig(SideFields):
    """Sizes, beside the side information of `SideFields`.

    Attributes:
        length: T.
        width: d.
        blocks: attention blocks.
        heads: h, a divisor of d.
        inner: width of the feed-forward layers.
        dropout: everywhere.
        objective: full softmax, or a sampled loss.
        popularity_bias: item bias that starts at log popularity.
    """

    length: int = 50
    width: int = 64
    blocks: int = 2
    heads: int = 2
    inner: int = 256
    dropout: float = 0.2
    objective: Objective = "full"
    popularity_bias: bool = False


class Block(nn.Module):
    """Multi-head attention and a feed-forward net, each with dropout, a residual and a norm after it."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        d = config.width
        self.heads = config.heads
        self.query, self.key, self.value, self.out = (nn.Linear(d, d) for _ in range(4))
        self.inner = nn.Sequential(nn.Linear(d, config.inner), nn.GELU(), nn.Linear(config.inner, d))
        self.norm_attention, self.norm_inner = nn.LayerNorm(d), nn.LayerNorm(d)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, bias: Tensor, *, last: bool) -> Tensor:
        """Map (B, T, d) to itself, or to its last position (B, 1, d); `bias` (B, 1, T, T) is added to the logits."""
        asked, bias = (x[:, -1:], bias[:, :, -1:]) if last else (x, bias)
        q, k, v = (self._split(layer(y)) for layer, y in ((self.query, asked), (self.key, x), (self.value, x)))
        weights = (q @ k.transpose(-1, -2) / (q.shape[-1] ** 0.5) + bias).softmax(dim=-1)
        mixed = (self.dropout(weights) @ v).transpose(1, 2).flatten(2)
        asked = self.norm_attention(asked + self.dropout(self.out(mixed)))
        return torch.as_tensor(self.norm_inner(asked + self.dropout(self.inner(asked))))

    def _split(self, x: Tensor) -> Tensor:
        B, T, d = x.shape
        return x.view(B, T, self.heads, d // self.heads).transpose(1, 2)


class SASRec(SequentialRecommender):
    """State: `user` (B, d)."""

    serving_class: ClassVar[ServingClass] = "A"

    def __init__(self, config: SASRecConfig, facts: DatasetFacts) -> None:
        super().__init__()
        self.config, self.length, self.item_count = config, config.length, facts.item_count
        self.columns = config.columns
        self.items = ItemVectors(facts, config.width, 0.02, config)
        self.bias = item_bias(facts, config.popularity_bias)
        self.positions = nn.Parameter(torch.empty(config.length, config.width))
        self.norm, self.dropout = nn.LayerNorm(config.width), Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        nn.init.normal_(self.positions, std=0.02)
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        causal = torch.triu(torch.ones(config.length, config.length), diagonal=1) * MASKED
        self.register_buffer("causal", causal, persistent=False)

    causal: Tensor

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the last block's output at the newest behaviour; an empty history attends to nothing but padding."""
        ids = inputs["items"]
        mask = (ids > 0).to(self.items.weight.dtype)
        bias = self.causal + (1 - mask)[:, None, None, :] * MASKED
        x = self.dropout(self.norm(self.items.behaviours(inputs) + self.positions)) * mask[..., None]
        for place, block in enumerate(self.blocks, start=1):
            x = block(x, bias, last=place == len(self.blocks))
        return Encoded({"user": x[:, -1]}, {})

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        """Return dot products of users and candidates, plus the item's bias."""
        return Scored((state["user"][rows] * self.items.candidates(candidates)).sum(-1) + self.bias[candidates], {})

    def score_all(self, state: Tensors) -> Tensor:
        """Return dot products with every item, (B, I+1)."""
        return state["user"] @ self.items.all().T + self.bias

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return full-softmax cross-entropy at the last position, or the loss that the config names."""
        return objective_loss(self, batch, self.config.objective)
