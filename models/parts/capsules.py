"""The shared parts of multi-interest models: capsules, their initial values, and scoring by the best interest.

Symbols: B rows, T length, d width, K interests, M flat candidates, n negatives, I items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from models.base import (
    DatasetFacts,
    Encoded,
    Scored,
    SequentialRecommender,
    ServingClass,
    Tensors,
    TrainingBatch,
)
from models.parts.layers import Dropout, item_bias, item_table
from models.parts.objectives import Sampled, objective_loss, row_mean, sampled_losses


def capsules(z: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """Return squash(sum_t c_kt z_kt) with c = softmax over interests of the logits (B, K, T)."""
    v = ((logits.softmax(dim=1) * mask[:, None, :])[..., None] * z).sum(dim=2)  # (B, K, d)
    square = (v * v).sum(-1, keepdim=True)
    return square / (1 + square) * v * torch.rsqrt(square + 1e-9)


def agreement(z: Tensor, o: Tensor) -> Tensor:
    """Return the dot products (B, K, T) of z (B, K or 1, T, d) and capsules (B, K, d)."""
    return (z * o[:, :, None, :]).sum(-1)


def routed(z: Tensor, logits: Tensor, mask: Tensor, *, training: bool) -> Tensor:
    """Return capsules (B, K, d) of three passes from logits (B, K, T); in training only the last has a gradient."""
    still = z.detach() if training else z
    for _ in range(2):
        logits = logits + agreement(still, capsules(still, logits, mask))
    return capsules(z, logits, mask)


@torch.no_grad()
def start_matrices(matrices: Tensor, aligned: bool) -> None:
    """Draw square matrices (..., d, d): near the identity, or a plain normal draw."""
    d = matrices.shape[-1]
    nn.init.normal_(matrices, std=0.1 if aligned else 1 / math.sqrt(d))
    if aligned:
        matrices.add_(torch.eye(d))


@dataclass(frozen=True)
class InterestsConfig:
    """Sizes and switches of every such model.

    Attributes:
        length: T.
        width: d.
        interests: K.
        readout: which interests serve the target and its negatives in training: the one nearest to the target
            ("hard"), the mean of all by their nearness to the target ("soft"), or each item its own best ("max").
        popularity_bias: item bias that starts at log popularity.
        objective: sampled loss.
        negatives: per positive, for the intercept of binary cross-entropy: the bias starts lower by their log.
        dropout: on item vectors of the history.
    """

    length: int = 50
    width: int = 64
    interests: int = 4
    readout: Literal["hard", "max", "soft"] = "hard"
    popularity_bias: bool = True
    objective: Sampled = "softmax"
    negatives: int = 100
    dropout: float = 0.2


class InterestModel(SequentialRecommender):
    """A model whose subclasses write `interests`. State: `interests` (B, K, d). Explanation: `interest` (M,)."""

    serving_class: ClassVar[ServingClass] = "B"
    context_state: ClassVar[str | None] = "interests"

    def __init__(self, config: InterestsConfig, facts: DatasetFacts) -> None:
        super().__init__()
        self.length, self.item_count = config.length, facts.item_count
        self._objective, self._readout = config.objective, config.readout
        self.items = item_table(facts, config.width, 0.1)
        intercept = -math.log(config.negatives) if config.objective == "bce" else 0.0
        self.bias = item_bias(facts, config.popularity_bias, intercept)
        self.dropout = Dropout(config.dropout)

    def interests(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return interests (B, K, d) of item vectors (B, T, d), zero on padding, and the mask (B, T)."""
        raise TypeError(f"{type(self).__name__} has no interests")

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the interests; an empty history has zeros, so only the item bias ranks."""
        mask = (inputs["items"] > 0).to(self.items.weight.dtype)
        x = self.dropout(self.items(inputs["items"])) * mask[..., None]
        return Encoded({"interests": self.interests(x, mask)}, {})

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        """Return the largest dot product of an interest plus the item's bias, and which interest it was."""
        dots = (state["interests"][rows] * self.items(candidates)[:, None, :]).sum(-1)  # (M, K)
        best, interest = dots.max(dim=-1)
        return Scored(best + self.bias[candidates], {"interest": interest})

    def score_all(self, state: Tensors) -> Tensor:
        """Return `score` of every item by one product, (B, I+1)."""
        return (state["interests"] @ self.items.weight.T).amax(dim=1) + self.bias

    def score_lists(self, state: Tensors, candidates: Tensor) -> Tensor:
        """Return `score` of one list (B, N) per row by batched products."""
        return self._dots(state, candidates).amax(dim=1) + self.bias[candidates]

    def score_shared(self, state: Tensors, items: Tensor) -> Tensor:
        """Return `score` of the same items for every row, (B, N)."""
        return self.score_lists(state, items)

    def _dots(self, state: Tensors, candidates: Tensor) -> Tensor:
        """Return the dot products with items (B, N), or (N,) for all rows: (B, K, N)."""
        return torch.as_tensor(state["interests"] @ self.items(candidates).transpose(-1, -2))

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the sampled loss under label-aware attention; labelled rows are scored as in serving."""
        if batch.labels is not None or self._readout == "max":
            return objective_loss(self, batch, self._objective)
        state = self.state_of(batch.inputs)
        near = self._dots(state, batch.targets[:, None])  # (B, K, 1)

        def score(items: Tensor) -> Tensor:
            dots = self._dots(state, items)
            if self._readout == "hard":
                winner = near.argmax(dim=1, keepdim=True).expand(-1, -1, dots.shape[-1])
                return torch.gather(dots, 1, winner)[:, 0] + self.bias[items]
            return (near.softmax(dim=1) * dots).sum(dim=1) + self.bias[items]

        return row_mean(sampled_losses(batch, self._objective, score), batch.weights)
