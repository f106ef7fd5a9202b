"""GRU4Rec: the last state of a GRU over the sequence, against all items.

Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016,
https://arxiv.org/abs/1511.06939, in the form of RecBole's `gru4rec`
(https://github.com/RUCAIBox/RecBole): a GRU without biases, a dense layer, full softmax at
the last position of every prefix.

Departures from the original: no session-parallel batches, no sampled ranking loss.

Symbols: B rows, T length, d width, M flat candidates, I items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from models.base import DatasetFacts, Encoded, Tensors, TrainingBatch
from models.parts.dot_product import DotProductRecommender
from models.parts.features import ItemVectors
from models.parts.layers import Dropout, item_bias
from models.parts.objectives import Objective, objective_loss


@dataclass(frozen=True)
class GRU4RecConfig:
    """Sizes.

    Attributes:
        length: T.
        width: d of items.
        hidden: size of the GRU's state.
        dropout: on the item vectors.
        popularity_bias: item bias that starts at log popularity.
        objective: full softmax, or a sampled loss.
    """

    length: int = 50
    width: int = 64
    hidden: int = 128
    dropout: float = 0.3
    popularity_bias: bool = False
    objective: Objective = "full"


class GRU4Rec(DotProductRecommender):
    """State: `user` (B, d)."""

    def __init__(self, config: GRU4RecConfig, facts: DatasetFacts) -> None:
        super().__init__()
        self.config, self.length, self.item_count = config, config.length, facts.item_count
        xavier = math.sqrt(2 / (facts.item_count + 1 + config.width))
        self.items, self.bias = ItemVectors(facts, config.width, xavier), item_bias(facts, config.popularity_bias)
        self.dropout = Dropout(config.dropout)
        # Without biases the state stays exactly zero over left padding (zero vectors), so no packing is needed.
        self.gru = nn.GRU(config.width, config.hidden, bias=False, batch_first=True)
        for weight in self.gru.parameters():
            nn.init.xavier_uniform_(weight)
        self.dense = nn.Linear(config.hidden, config.width)

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the dense layer over the GRU's state at the newest behaviour; its bias for an empty history."""
        mask = (inputs["items"] > 0).to(self.items.weight.dtype)
        states, _ = self.gru(self.dropout(self.items(inputs["items"])) * mask[..., None])
        return Encoded({"user": self.dense(states[:, -1])}, {})

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return full-softmax cross-entropy at the last position, or the loss that the config names."""
        return objective_loss(self, batch, self.config.objective)
