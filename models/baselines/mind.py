"""MIND: capsules of one shared matrix, routed from a fixed draw; the interest nearest to the target learns.

Li et al., "Multi-Interest Network with Dynamic Routing for Recommendation at Tmall", CIKM 2019,
https://arxiv.org/abs/1904.08030, in the form of https://github.com/THUDM/ComiRec (`Model_MIND`).

Departures:
- The draw of initial routing logits is made once and kept, indexed by recency: scores are a function of the input.
- Label-aware attention is hard by default (`readout`); its power p and the adaptive number of interests are left out.
- An item bias from log popularity, S near the identity, and no ReLU projection by default: each a switch.
- Negatives come from the recipe, not log-uniform.

Symbols: B rows, T length, d width, K interests.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import DatasetFacts
from models.parts.capsules import InterestModel, InterestsConfig, routed, start_matrices


@dataclass(frozen=True)
class MINDConfig(InterestsConfig):
    """Sizes and switches, next to those of `InterestsConfig`.

    Attributes:
        relu_proj: a dense layer with ReLU after routing, one for all interests.
        aligned_start: matrices start near the identity.
    """

    relu_proj: bool = False
    aligned_start: bool = True


class MIND(InterestModel):
    """Behaviour-to-interest routing with a shared bilinear map (section 3.3 of the paper)."""

    draw: Tensor

    def __init__(self, config: MINDConfig, facts: DatasetFacts) -> None:
        super().__init__(config, facts)
        self.config = config
        self.capsule = nn.Parameter(torch.empty(config.width, config.width))
        start_matrices(self.capsule, config.aligned_start)
        draw = nn.init.trunc_normal_(torch.empty(config.length, config.interests))
        self.register_buffer("draw", draw)  # S is shared: only this draw makes interests differ
        self.projection = nn.Linear(config.width, config.width) if config.relu_proj else None
        if self.projection is not None:
            start_matrices(self.projection.weight, config.aligned_start)
            nn.init.zeros_(self.projection.bias)

    def interests(self, x: Tensor, mask: Tensor) -> Tensor:
        """Route x S for all interests; an empty history stays zero for any bias of the projection."""
        z = (x @ self.capsule)[:, None]  # (B, 1, T, d)
        o = routed(z, self.draw.T[None], mask, training=self.training)
        if self.projection is None:
            return o
        return F.relu(self.projection(o)) * mask.amax(dim=1)[:, None, None]
