"""BERT4Rec: self-attention in both directions, learnt by filling in masked items.

Sun et al., "BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer", CIKM
2019, https://arxiv.org/abs/1904.06690, in the form of RecBole's `bert4rec` (https://github.com/RUCAIBox/RecBole) with
the output transform and the item bias of the authors' code (https://github.com/FeiSun/BERT4Rec).

| Part | Here |
| --- | --- |
| attention, feed-forward net, residuals, norms (3.3 to 3.5) | `models.parts.layers.AttentionBlock` |
| output: GELU of a dense layer, tied items, bias (3.6) | `_hidden`, `score` |
| Cloze task, and rows in which only the last item is masked (3.7) | `cloze`, `loss` |
| at test, a mask after the history | `encode` |

Departures: post-norm blocks; a norm in the output transform; every prefix of a sequence is a row and draws new masks
each time, instead of ten masked copies of each sequence. Positions are indexed by recency. The
mask's vector is outside the item table, so no index scores it. Rows with labels are learnt at the mask after the
history. The last block computes only the positions that are read.

`length` counts the slots of the input; the mask takes one, so at most `length` - 1 behaviours are read.

Symbols: B rows, T length, d width, K masked slots of a row at most, N masked items of a batch, M flat candidates,
I items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from contract.bundle.context import CONTEXT
from models.base import MASKED, DatasetFacts, Encoded, Tensors, TrainingBatch
from models.parts.dot_product import DotProductRecommender
from models.parts.features import ItemVectors
from models.parts.layers import AttentionBlock, Dropout, item_bias, start_small
from models.parts.objectives import Objective, objective_loss, state_loss


@dataclass(frozen=True)
class BERT4RecConfig:
    """Sizes and the share of masks.

    Attributes:
        length: T.
        width: d.
        blocks: attention blocks.
        heads: a divisor of d.
        inner: width of the feed-forward layers.
        mask_share: share of a row's items that are masked in training, rounded, at least one.
        last_share: share of rows in which only the last item is masked in training.
        dropout: everywhere.
        popularity_bias: the item bias, which is always trained, starts at log popularity instead of zero.
        objective: full softmax, or a sampled loss; all masks of a row share its negatives.
    """

    length: int = 50
    width: int = 64
    blocks: int = 2
    heads: int = 2
    inner: int = 256
    mask_share: float = 0.2
    last_share: float = 0.5
    dropout: float = 0.2
    popularity_bias: bool = False
    objective: Objective = "full"

    def __post_init__(self) -> None:
        if not (0 < self.mask_share <= 1 and 0 <= self.last_share <= 1):
            raise ValueError("bert4rec: mask_share must be in (0, 1], last_share in [0, 1]")
        if self.length < 2:
            raise ValueError(f"bert4rec: length {self.length}: must be at least 2, one of them for the mask")


class Cloze(NamedTuple):
    """Which slots of which rows are masked: (B, K) each.

    Attributes:
        slots: K different slots of each row, masked ones first.
        chosen: whether the slot is masked; the others only fill the row.
    """

    slots: Tensor
    chosen: Tensor


def cloze(real: Tensor, mask_share: float, last_share: float) -> Cloze:
    """Draw the masked slots of rows whose real slots (B, T) are at the right; padding is never masked."""
    B, T = real.shape
    K = max(1, round(T * mask_share))
    last_only = torch.rand(B, device=real.device) < last_share
    newest = torch.arange(T, device=real.device) == T - 1
    draw = torch.rand(B, T, device=real.device) + real + (last_only[:, None] & newest)  # the highest are masked
    share = torch.round(real.sum(dim=1) * mask_share).clamp(1, K)
    counts = torch.where(last_only, 1, share)
    return Cloze(draw.topk(K).indices, torch.arange(K, device=real.device) < counts[:, None])


class BERT4Rec(DotProductRecommender):
    """State: `user` (B, d)."""

    def __init__(self, config: BERT4RecConfig, facts: DatasetFacts) -> None:
        super().__init__()
        d = config.width
        self.config, self.length, self.item_count = config, config.length, facts.item_count
        self.items = ItemVectors(facts, d, 0.02)
        self.bias = item_bias(facts, config.popularity_bias)
        self.bias.requires_grad_()
        self.mask = nn.Parameter(torch.empty(d))
        self.positions = nn.Parameter(torch.empty(config.length, d))
        self.norm, self.dropout = nn.LayerNorm(d), Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            AttentionBlock(d, config.heads, config.inner, config.dropout) for _ in range(config.blocks)
        )
        self.transform = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.LayerNorm(d))
        nn.init.normal_(self.mask, std=0.02)
        nn.init.normal_(self.positions, std=0.02)
        start_small(self.blocks)
        start_small(self.transform)

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the output at a mask that follows the newest T-1 behaviours."""
        ids = inputs["items"][:, 1:]
        masks = self.mask.expand(ids.shape[0], 1, -1)  # len() would fix B in the exported graph
        real = torch.cat((ids > 0, torch.ones_like(ids[:, :1], dtype=torch.bool)), dim=1)
        return Encoded({"user": self._hidden(torch.cat((self.items(ids), masks), dim=1), real)[:, 0]}, {})

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the objective's loss at every masked item of histories that end with their target.

        Where the recipe drops seen items, they are all other items of the row, masked or not.
        """
        if batch.labels is not None:
            return objective_loss(self, batch, self.config.objective)
        ids = torch.cat((batch.inputs["items"][:, 1:], batch.targets[:, None]), dim=1)
        drawn = cloze(ids > 0, self.config.mask_share, self.config.last_share)
        masked = torch.zeros_like(ids, dtype=torch.bool).scatter(1, drawn.slots, drawn.chosen)
        x = torch.where(masked[..., None], self.mask, self.items(ids))
        hidden = self._hidden(x, ids > 0, drawn.slots)[drawn.chosen]  # (N, d)
        masks = _masks(batch, ids.gather(1, drawn.slots), drawn.chosen)
        state = {"user": hidden}
        if self.context is not None:  # only the target's context is known
            rows = torch.nonzero(drawn.chosen)[:, 0]
            is_target = (drawn.slots == ids.shape[1] - 1)[drawn.chosen]
            state = self.in_context(state, {CONTEXT: batch.inputs[CONTEXT][rows] * is_target[:, None]})
        return state_loss(self, state, masks, self.config.objective)

    def _hidden(self, x: Tensor, real: Tensor, slots: Tensor | None = None) -> Tensor:
        """Map vectors (B, T, d) to outputs at slots (B, K), or only at the newest slot: (B, K or 1, d)."""
        keep = real.to(self.positions.dtype)
        bias = (1 - keep)[:, None, None, :] * MASKED
        x = self.dropout(self.norm(x + self.positions)) * keep[..., None]
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, bias)
        asked = x[:, -1:] if slots is None else x.gather(1, slots[..., None].expand(-1, -1, x.shape[-1]))
        return torch.as_tensor(self.transform(last(x, bias, asked)))


def _masks(batch: TrainingBatch, items: Tensor, chosen: Tensor) -> TrainingBatch:
    """Return a row for each masked item (N,): those of items (B, K) that are chosen; a mask has its row's weight."""
    rows = torch.nonzero(chosen)[:, 0]

    def repeated(values: Tensor | None) -> Tensor | None:
        return values if values is None or len(values) != len(chosen) else values[rows]

    seen = None if batch.seen is None else torch.cat((batch.seen, batch.targets[:, None]), dim=1)[rows]
    shared = batch.negatives is None or batch.negatives.dim() == 1
    return batch._replace(
        inputs={},
        targets=items[chosen],
        negatives=batch.negatives if shared else repeated(batch.negatives),
        seen=seen,
        weights=repeated(batch.weights),
        log_counts=batch.log_counts if shared else repeated(batch.log_counts),
    )
