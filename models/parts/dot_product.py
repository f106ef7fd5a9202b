"""Models of which a candidate costs one dot product: of the user's vector and the item's, plus the item's bias."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from models.base import NewRows, Scored, SequentialRecommender, ServingClass, Tensors
from models.parts.features import ItemVectors


class DotProductRecommender(SequentialRecommender):
    """Subclasses make `items` and `bias`, and an `encode` whose state has `user` (B, d)."""

    serving_class: ClassVar[ServingClass] = "A"
    items: ItemVectors
    bias: nn.Parameter

    @property
    def described_by(self) -> tuple[str, ...]:
        """Return the side features, if the model learns to do without ids."""
        return () if self.items.ids is None else self.items.parts.names

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        """Return dot products of users and candidates, plus the item's bias."""
        bias = self._biases()[candidates]
        return Scored((state["user"][rows] * self.items.candidates(candidates)).sum(-1) + bias, {})

    def score_all(self, state: Tensors) -> Tensor:
        """Return dot products with every item, (B, I+1)."""
        return state["user"] @ self.items.all().T + self._biases()

    def score_shared(self, state: Tensors, items: Tensor) -> Tensor:
        """Return dot products with the same items for every row, (B, N)."""
        return state["user"] @ self.items.candidates(items).T + self._biases()[items]

    def describe(self, features: Tensors) -> NewRows:
        """See the base class: a candidate's row is its vector and its bias."""
        return self.items.parts.describe(features)

    def score_new(self, state: Tensors, vectors: Tensor, rows: Tensor) -> Scored:
        """Return `score` of new items by their rows."""
        return Scored((state["user"][rows] * vectors[:, :-1]).sum(-1) + vectors[:, -1], {})

    def settle(self) -> None:
        """See the base class."""
        if self.items.ids is not None:
            self.items.ids.fill(self.items.weight, self.bias)

    def _biases(self) -> Tensor:
        return self.bias if self.items.ids is None else self.items.ids.biases(self.bias)
