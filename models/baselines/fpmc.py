"""FPMC: matrix factorisation of user and item next to a factorised Markov chain from the newest item to the next.

Rendle et al., "Factorizing Personalized Markov Chains for Next-Basket Recommendation", WWW 2010,
https://doi.org/10.1145/1772690.1772773, in the form of RecBole's `fpmc` (https://github.com/RUCAIBox/RecBole): baskets
of one item, Xavier-normal tables, learnt by pairs.

| Part of the paper | Here |
| --- | --- |
| <v_u^UI, v_i^IU> + <v_i^IL, v_l^LI>, section 4.2, without the term of user and last item | `encode`, `score` |
| S-BPR, section 5.2 | `objective="bpr"` |

The term of user and last item is the same for every candidate, so it never changes a ranking; the paper drops it too.
Both dot products are one of width 2d: the user's state is [v_u^UI; v_l^LI], the row of item i is [v_i^IU; v_i^IL].

Departures:
- An item bias that starts at log popularity; the paper and RecBole have none. An unknown user and an empty history each
  have the zero vector: the known part still ranks, and popularity ranks if both are unknown.
- The regularisation is the recipe's `weight_decay`, decoupled from the gradient; Adam instead of bootstrapped SGD.
- Any number of negatives per positive, the mean over pairs; other objectives by a switch.

Symbols: B rows, d width of each table, M flat candidates, I items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.base import DatasetFacts, Encoded, Tensors, TrainingBatch
from models.baselines.bpr import UserVectors
from models.parts.dot_product import DotProductRecommender
from models.parts.features import ItemVectors
from models.parts.layers import Dropout, item_bias, item_table
from models.parts.objectives import Objective, objective_loss


@dataclass(frozen=True)
class FPMCConfig:
    """Sizes.

    Attributes:
        length: T; only the newest behaviour is read, but negatives are drawn outside these.
        width: d, of each of the four tables.
        objective: pairwise (bpr), or another training loss.
        popularity_bias: item bias that starts at log popularity.
        dropout: on the state; the paper has none.
    """

    length: int = 50
    width: int = 64
    objective: Objective = "bpr"
    popularity_bias: bool = True
    dropout: float = 0.0


class FPMC(DotProductRecommender):
    """State: `user` (B, 2d), the user's vector and the last item's side by side."""

    row_inputs = ("user",)

    def __init__(self, config: FPMCConfig, facts: DatasetFacts) -> None:
        super().__init__()
        self.config, self.length, self.item_count = config, config.length, facts.item_count
        xavier = math.sqrt(2 / (facts.item_count + 1 + config.width))  # of one of the tables
        self.users, self.last = UserVectors(facts, config.width), item_table(facts, config.width, xavier)
        self.items = ItemVectors(facts, 2 * config.width, xavier)  # IU and IL side by side
        self.bias, self.dropout = item_bias(facts, config.popularity_bias), Dropout(config.dropout)

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the user's row next to the newest item's."""
        newest = inputs["items"][:, -1]
        last = self.last(newest) * (newest > 0).to(self.last.weight.dtype)[:, None]
        return Encoded({"user": self.dropout(torch.cat((self.users(inputs["user"]), last), dim=-1))}, {})

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the mean of -log sigma(positive - negative), or the loss that the config names."""
        return objective_loss(self, batch, self.config.objective)
