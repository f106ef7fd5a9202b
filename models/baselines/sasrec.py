"""SASRec: causal self-attention over the sequence, against all items.

Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, https://arxiv.org/abs/1808.09781, in the
form of RecBole's `sasrec` (https://github.com/RUCAIBox/RecBole): post-norm blocks, learnt positions, full softmax at
the last position of every prefix.

Departures from the original: no binary cross-entropy at every position, no pre-norm on the query, no square-root
scaling. Positions are indexed by recency (the last slot is always the newest behaviour), padded keys are masked, and
the last block computes only the last position, because no other is read. Side information is our addition, off by
default.

Symbols: B rows, T length, d width, M flat candidates, I items.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.base import MASKED, DatasetFacts, Encoded, Tensors, TrainingBatch
from models.parts.dot_product import DotProductRecommender
from models.parts.features import ItemVectors, SideFields
from models.parts.layers import AttentionBlock, Dropout, item_bias, start_small
from models.parts.objectives import Objective, objective_loss


@dataclass(frozen=True)
class SASRecConfig(SideFields):
    """Sizes, next to the side information of `SideFields`.

    Attributes:
        length: T.
        width: d.
        blocks: attention blocks.
        heads: a divisor of d.
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


class SASRec(DotProductRecommender):
    """State: `user` (B, d)."""

    def __init__(self, config: SASRecConfig, facts: DatasetFacts) -> None:
        super().__init__()
        self.config, self.length, self.item_count = config, config.length, facts.item_count
        self.columns = config.columns
        self.items = ItemVectors(facts, config.width, 0.02, config)
        self.bias = item_bias(facts, config.popularity_bias)
        self.positions = nn.Parameter(torch.empty(config.length, config.width))
        self.norm, self.dropout = nn.LayerNorm(config.width), Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            AttentionBlock(config.width, config.heads, config.inner, config.dropout) for _ in range(config.blocks)
        )
        nn.init.normal_(self.positions, std=0.02)
        start_small(self.blocks)
        causal = torch.triu(torch.ones(config.length, config.length), diagonal=1) * MASKED
        self.register_buffer("causal", causal, persistent=False)

    causal: Tensor

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the last block's output at the newest behaviour; an empty history attends only to padding."""
        ids = inputs["items"]
        mask = (ids > 0).to(self.items.weight.dtype)
        bias = self.causal + (1 - mask)[:, None, None, :] * MASKED
        x = self.dropout(self.norm(self.items.behaviours(inputs) + self.positions)) * mask[..., None]
        *blocks, newest = self.blocks
        for block in blocks:
            x = block(x, bias)
        return Encoded({"user": newest(x, bias[:, :, -1:], x[:, -1:])[:, 0]}, {})

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return full-softmax cross-entropy at the last position, or the loss that the config names."""
        return objective_loss(self, batch, self.config.objective)
