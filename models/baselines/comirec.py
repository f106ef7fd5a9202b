"""ComiRec: several interests by dynamic routing (DR) or by self-attention (SA).

Cen et al., "Controllable Multi-Interest Framework for Recommendation", KDD 2020, https://arxiv.org/abs/2005.09347, in
the form of https://github.com/THUDM/ComiRec (`Model_ComiRec_DR`, `Model_ComiRec_SA`).

Departures:
- DR: one matrix per interest, near the identity; one per position too, as published, is the switch `positional`.
- SA: no position table by default (`positions` is the switch); the second map has no bias, which softmax would cancel.
- An item bias from log popularity; negatives come from the recipe, not log-uniform.
- Positions are indexed by recency. The diversity step after retrieval is left out.

Symbols: B rows, T length, d width, K interests.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.base import MASKED, DatasetFacts
from models.parts.capsules import InterestModel, InterestsConfig, routed, start_matrices


@dataclass(frozen=True)
class ComiRecDRConfig(InterestsConfig):
    """Sizes and switches, next to those of `InterestsConfig`.

    Attributes:
        positional: one matrix per position too, as in the published code.
        aligned_start: matrices start near the identity.
    """

    positional: bool = False
    aligned_start: bool = True


@dataclass(frozen=True)
class ComiRecSAConfig(InterestsConfig):
    """Sizes and switches, next to those of `InterestsConfig`.

    Attributes:
        positions: a position table for attention, but not for the values.
    """

    positions: bool = False


class ComiRecDR(InterestModel):
    """Dynamic routing with a matrix per interest, from logits of zero."""

    def __init__(self, config: ComiRecDRConfig, facts: DatasetFacts) -> None:
        super().__init__(config, facts)
        self.config = config
        d, places = config.width, (config.length,) if config.positional else ()
        self.capsules = nn.Parameter(torch.empty(*places, config.interests, d, d))
        start_matrices(self.capsules, config.aligned_start)

    def interests(self, x: Tensor, mask: Tensor) -> Tensor:
        """Route W_k x_t, or W_tk x_t."""
        maps = "btd,tkde->bkte" if self.config.positional else "btd,kde->bkte"
        z = torch.einsum(maps, x, self.capsules)
        return routed(z, torch.zeros_like(z[..., 0]), mask, training=self.training)


class ComiRecSA(InterestModel):
    """Self-attention with K heads: softmax over t of W2 tanh(W1 p_t)."""

    def __init__(self, config: ComiRecSAConfig, facts: DatasetFacts) -> None:
        super().__init__(config, facts)
        d = config.width
        self.positions = nn.Parameter(0.1 * torch.randn(config.length, d)) if config.positions else None
        self.inner, self.heads = nn.Linear(d, 4 * d), nn.Linear(4 * d, config.interests, bias=False)

    def interests(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attend to real positions; the values are item vectors without positions."""
        placed = x if self.positions is None else x + self.positions
        logits = self.heads(torch.tanh(self.inner(placed))) + (1 - mask)[..., None] * MASKED
        return torch.as_tensor(logits.softmax(dim=1).transpose(1, 2) @ x)  # padded x is zero: an empty row gives zeros
