"""Popularity: the same ranking for all users, by the number of an item's training interactions.

No parameters are learnt. The score is the count over the largest count, as RecBole's `Pop` has it
(https://github.com/RUCAIBox/RecBole), counted from the raw training log.

Symbols: B rows, M flat candidates, I items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from models.base import DatasetFacts, Encoded, Scored, SequentialRecommender, ServingClass, Tensors, TrainingBatch


@dataclass(frozen=True)
class PopularityConfig:
    """Sizes.

    Attributes:
    length: T, which the model does not read; use the shortest.
    """

    length: int = 1


class Popularity(SequentialRecommender):
    """State: `nothing` (B, 1), zeros."""

    from_data: ClassVar[tuple[str, ...]] = ("share",)
    serving_class: ClassVar[ServingClass] = "A"
    context_state: ClassVar[str | None] = None

    def __init__(self, config: PopularityConfig, facts: DatasetFacts) -> None:
        super().__init__()
        self.length, self.item_count = config.length, facts.item_count
        counts = torch.from_numpy(facts.item_popularity).to(torch.float32)
        self.register_buffer("share", counts / counts.max().clamp_min(1.0))

    share: Tensor

    def encode(self, inputs: Tensors) -> Encoded:
        """Return an empty state."""
        return Encoded({"nothing": inputs["items"][:, :1].to(torch.float32) * 0.0}, {})

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        """Return the popularity of each candidate, 0 to 1."""
        return Scored(self.share[candidates] + state["nothing"][rows, 0], {})

    def score_all(self, state: Tensors) -> Tensor:
        """Return the popularity of every item, (B, I+1)."""
        return self.share + state["nothing"]

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return zero: there is nothing to learn."""
        return torch.zeros((), requires_grad=True)
