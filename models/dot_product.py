"""Models of which a candidate costs one dot product: of the user's vector and the item's, plus the item's bias."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from models.base import Scored, SequentialRecommender, ServingClass, Tensors
from models.features import ItemVectors


class DotProductRecommender(SequentialRecommender):
    """Subclasses make `items` and `bias`, and an `encode` whose state has `user` (B, d)."""

    serving_class: ClassVar[ServingClass] = "A"
    items: ItemVectors
    bias: nn.Parameter

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        """Return dot products of users and candidates, plus the item's bias."""
        return Scored((state["user"][rows] * self.items.candidates(candidates)).sum(-1) + self.bias[candidates], {})

    def score_all(self, state: Tensors) -> Tensor:
        """Return dot products with every item, (B, I+1)."""
        return state["user"] @ self.items.all().T + self.bias
