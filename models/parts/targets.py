"""Several targets of a ranking head: a logit for each outcome of an impression, and one score for the ranking.

    score = sum_h w_h sigma(logit_h)

The weights are part of the user's state, one row for each user, so that a server can give the users of an experiment's
arm other weights without another graph; `encode` gives those of the config. Symbols: B rows, H targets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import torch.nn.functional as F
from pydantic import ConfigDict
from torch import Tensor

WEIGHTS: Final = "target_weights"
"""The state (B, H) that has the weights of the score."""


@dataclass(frozen=True)
class Target:
    """One outcome.

    Attributes:
        loss: weight of its loss in training.
        score: weight of its probability in the score.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    loss: float = 1.0
    score: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.loss) and math.isfinite(self.score) and self.loss >= 0):
            raise ValueError(f"targets: loss {self.loss} and score {self.score}: must be finite, loss not below 0")


def targets_loss(logits: Tensor, outcomes: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean over targets of binary cross-entropy (B,); an outcome (B, H) is a share from 0 to 1."""
    losses = F.binary_cross_entropy_with_logits(logits.float(), outcomes, reduction="none")
    return losses @ weights / weights.sum()
