"""A2SVD (attentive asynchronous SVD): one learned query attends over the behaviours, in any order.

The baseline "A2SVD" of Yu et al., "Adaptive User Modeling with Long and Short-Term Preferences for Personalized
Recommendation" (SLi-Rec), IJCAI 2019, https://www.ijcai.org/proceedings/2019/585, in the form of the deeprec models of
https://github.com/recommenders-team/recommenders; nothing is copied.

    a_t = softmax_t((e_t W) . q),  long = sum_t a_t e_t,  score = MLP([long; e_candidate])

Departures, next to those of `deeprec.py`:
- none: the mask on the softmax is the frame's departure (the original gives padding weight, so scores depend on T).

Symbols: B rows, T length, e width of a behaviour vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.base import DatasetFacts, Encoded, Tensors
from models.baselines.deeprec import FrameConfig, FrameModel, ScoringNetwork, masked_softmax


class QueryAttention(nn.Module):
    """The mean of vectors (B, T, e), weighted by softmax of (e_t W) . q with a learned query q."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.eye(width) + 0.1 * torch.randn(width, width))
        self.query = nn.Parameter(0.1 * torch.randn(width))

    def forward(self, e: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return means (B, e) and weights (B, T); zeros for a row of nothing but padding."""
        weights = masked_softmax(e @ (self.map @ self.query), mask)
        return (weights[..., None] * e).sum(dim=1), weights


class A2SVD(FrameModel):
    """Explanation of a user: `attention` (B, T), the weight of each behaviour."""

    def __init__(self, config: FrameConfig, facts: DatasetFacts) -> None:
        super().__init__(config, facts)
        self.attention = QueryAttention(self.vectors.width)
        self.scoring = ScoringNetwork(self.vectors.width, self.vectors.width, dropout=config.dropout)

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the user's share of the first layer, from the attended mean of the behaviours."""
        long, weights = self.attention(*self.behaviours(inputs))
        return self.encoded(long)._replace(explanation={"attention": weights})
