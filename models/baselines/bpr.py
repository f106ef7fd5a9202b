"""BPR: matrix factorisation of users and items, learnt by pairs of a seen and an unseen item.

Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009, https://arxiv.org/abs/1205.2618,
in the form of RecBole's `bpr` (https://github.com/RUCAIBox/RecBole): Xavier-normal tables, one unseen item per pair.

| Part of the paper | Here |
| --- | --- |
| BPR-Opt, -ln sigma(x_ui - x_uj), section 4.1 | `objective="bpr"` |
| x_ui = w_u . h_i, matrix factorisation, section 4.3.1 | `score` |

Departures:
- An item bias that starts at log popularity (the paper's regularised item bias, section 4.3.1, starts at zero; RecBole
  has none). An unknown user has the zero vector, so only popularity ranks.
- The regularisation is the recipe's `weight_decay`, decoupled from the gradient; Adam instead of bootstrapped SGD.
- Any number of negatives per positive, the mean over pairs; other objectives by a switch.
- Rows are prefixes as for the sequential models, so that every system learns from the same rows.

Symbols: B rows, d width, M flat candidates, I items, U users.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.base import DatasetFacts, Encoded, Tensors, TrainingBatch
from models.parts.dot_product import DotProductRecommender
from models.parts.features import ItemVectors
from models.parts.layers import Dropout, item_bias
from models.parts.objectives import Objective, objective_loss


@dataclass(frozen=True)
class BPRConfig:
    """Sizes.

    Attributes:
        length: T; the model reads no behaviour, but negatives are drawn outside these, so use 1 only for serving.
        width: d.
        objective: pairwise (bpr), or another training loss.
        popularity_bias: item bias that starts at log popularity.
        dropout: on the user's vector; the paper has none.
    """

    length: int = 50
    width: int = 64
    objective: Objective = "bpr"
    popularity_bias: bool = True
    dropout: float = 0.0


class UserVectors(nn.Module):
    """A table of users (U+1, d), Xavier-normal; the unknown user's vector stays zero."""

    def __init__(self, facts: DatasetFacts, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(facts.user_count + 1, width)
        nn.init.normal_(self.table.weight, std=math.sqrt(2 / (facts.user_count + 1 + width)))

    def forward(self, users: Tensor) -> Tensor:
        """Map user indices (B,) to vectors (B, d)."""
        known = (users > 0).to(self.table.weight.dtype)
        return torch.as_tensor(self.table(users) * known[:, None])


class BPR(DotProductRecommender):
    """State: `user` (B, d)."""

    row_inputs = ("user",)

    def __init__(self, config: BPRConfig, facts: DatasetFacts) -> None:
        super().__init__()
        self.config, self.length, self.item_count = config, config.length, facts.item_count
        self.users, self.dropout = UserVectors(facts, config.width), Dropout(config.dropout)
        xavier = math.sqrt(2 / (facts.item_count + 1 + config.width))
        self.items, self.bias = ItemVectors(facts, config.width, xavier), item_bias(facts, config.popularity_bias)

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the user's row; the behaviours are not read."""
        unread = inputs["items"][:, :1].to(self.items.weight.dtype) * 0.0  # keeps the input in the exported graph
        return Encoded({"user": self.dropout(self.users(inputs["user"])) + unread}, {})

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the mean of -log sigma(positive - negative), or the loss that the config names."""
        return objective_loss(self, batch, self.config.objective)
