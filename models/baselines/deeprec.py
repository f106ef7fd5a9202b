"""The frame that five baselines of MGNM's table share: behaviour vectors, masked attention, and the scoring network.

It is the frame of the deeprec models of https://github.com/recommenders-team/recommenders (Caser, A2SVD, GRU4Rec,
SLi-Rec) and of SURGE, https://github.com/tsinghua-fib-lab/SIGIR21-SURGE. Written from their description; nothing is
copied. Departures, for all five:
- padding is on the left and masked in all places where the originals admit it (their attention has no mask);
- the scoring network has an item bias that may start at log popularity;
- negatives and loss come from the recipe (theirs: softmax over 1 + 4 targets of other rows of the same batch).

Symbols: B rows, T length, e width of a behaviour vector, M flat candidates, h hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import (
    MASKED,
    DatasetFacts,
    Encoded,
    Scored,
    SequentialRecommender,
    ServingClass,
    Tensors,
    TrainingBatch,
)
from models.parts.item_feature import ItemFeature
from models.parts.layers import Dropout, item_bias, item_table
from models.parts.objectives import Objective, objective_loss

_CANDIDATES = 1344  # that share a group of like length: 64 rows of a positive and 20 negatives, one of 1001


class BehaviourVectors(nn.Module):
    """e = [item; categories]: the vector of a behaviour and of a candidate alike.

    Args:
        facts: the data set's.
        width: of the item part.
        side: item features that serve as categories, each `side_width` wide; none means only the item part.
        side_width: of each category part.
    """

    def __init__(self, facts: DatasetFacts, width: int, side: Sequence[str], side_width: int) -> None:
        super().__init__()
        self.items = item_table(facts, width, 0.1)
        self.side = nn.ModuleList(ItemFeature(facts, name, side_width, 0.1) for name in side)
        self.width = width + len(side) * side_width

    def forward(self, ids: Tensor) -> Tensor:
        """Map item indices (...) to (..., e); padding has zeros."""
        parts = [self.items(ids), *(feature(ids) for feature in self.side)]
        return torch.cat(parts, dim=-1)

    def all(self) -> Tensor:
        """Return the vector of every item, (I+1, e)."""
        return torch.as_tensor(self(torch.arange(self.items.num_embeddings, device=self.items.weight.device)))


class ScoringNetwork(nn.Module):
    """MLP(100, 64) on [user part; candidate part] to one logit; the user's share of the first layer is computed once.

    W [u; x] = W_u u + W_x x: `user` runs in `encode`, the rest in `score`. Batch normalisation on each hidden layer, as
    in the frame; in evaluation it is a fixed affine map, so no row depends on another.
    """

    def __init__(self, user: int, candidate: int, hidden: tuple[int, int] = (100, 64), dropout: float = 0.0) -> None:
        super().__init__()
        self.user = nn.Linear(user, hidden[0])
        self.candidate = nn.Linear(candidate, hidden[0], bias=False)
        self.norm_first, self.norm_second = nn.BatchNorm1d(hidden[0]), nn.BatchNorm1d(hidden[1])
        self.second, self.out = nn.Linear(*hidden), nn.Linear(hidden[1], 1)
        self.dropout = Dropout(dropout)

    def forward(self, user: Tensor, candidate: Tensor) -> Tensor:
        """Return logits (M,) of users' shares (M, 100), made by `self.user`, and candidate parts (M, candidate)."""
        return self.rest(user + self.candidate(candidate))

    def rest(self, first: Tensor) -> Tensor:
        """Return logits (M,) of what the first layer gives, (M, 100), before its normalisation."""
        x = self.dropout(F.relu(self.norm_first(first)))
        x = self.dropout(F.relu(self.norm_second(self.second(x))))
        return torch.as_tensor(self.out(x).squeeze(-1))


class PairAttention(nn.Module):
    """Weights over positions by FCN(80, 40, 1) on [a; q; a - q; a (x) q], with a = x M: positions x against a query q.

    The first layer is split: W [a; q; a-q; a(x)q] = (Wa + Wd) a + (Wq - Wd) q + Wm (a (x) q). `keys` computes the first
    term once per user; the second and third belong to the query.
    """

    def __init__(self, keys: int, query: int, hidden: tuple[int, int] = (80, 40)) -> None:
        super().__init__()
        self.map = nn.Linear(keys, query, bias=False)
        self.of_key = nn.Linear(query, hidden[0])
        self.of_query = nn.Linear(query, hidden[0], bias=False)
        self.of_product = nn.Linear(query, hidden[0], bias=False)
        self.second, self.out = nn.Linear(*hidden), nn.Linear(hidden[1], 1)

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a (..., T, query) and its share of the first layer (..., T, 80) for positions x (..., T, keys)."""
        a = self.map(x)
        return a, self.of_key(a)

    def logits(self, a: Tensor, share: Tensor, query: Tensor) -> Tensor:
        """Return logits (..., T) of positions against one query (..., query) each."""
        # In place, since these are the largest tensors of the models that use it.
        first = self.of_product(a * query[..., None, :]).add_(share).add_(self.of_query(query)[..., None, :]).relu_()
        return torch.as_tensor(self.out(self.second(first).relu_()).squeeze(-1))


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Return softmax over the last axis of real positions (mask 1); rows without any are zeros."""
    return (logits + (1 - mask) * MASKED).softmax(dim=-1) * mask


def by_length(
    state: Tensors, lists: Tensor, use: Callable[[Tensors, Tensor], Tensor], whole: frozenset[str] = frozenset()
) -> Tensor:
    """Apply `use` to rows and their lists (B, N) in groups of like length, each cut to its longest history.

    So `use` spends little work on padded positions, and its tensors fit a cache: long lists make small groups. All of
    `state`, including its `mask` (B, T), has positions in its second axis, except the names in `whole`.
    """
    lengths = state["mask"].sum(dim=1)
    order = lengths.argsort()
    parts = []
    for rows in torch.split(order, max(1, _CANDIDATES // lists.shape[1])):
        longest = max(1, int(lengths[rows[-1]]))
        some = {name: tensor[rows] if name in whole else tensor[rows, -longest:] for name, tensor in state.items()}
        parts.append(use(some, lists[rows]))
    return torch.cat(parts)[order.argsort()]


@dataclass(frozen=True)
class FrameConfig:
    """The config of every model of the frame.

    Attributes:
        length: T.
        width: of the item part of e.
        side: item features that serve as categories.
        side_width: of each category part of e.
        dropout: in the hidden layers of the scoring network.
        popularity_bias: item bias that starts at log popularity.
        objective: training loss; the frame's is softmax over the target and negatives.
    """

    length: int = 50
    width: int = 32
    side: tuple[str, ...] = ()
    side_width: int = 8
    dropout: float = 0.2
    popularity_bias: bool = True
    objective: Objective = "softmax"


class FrameModel(SequentialRecommender):
    """A model whose user part does not depend on candidates. Subclasses make `scoring` and write `encode`.

    The first layer's share of every item is one table, computed whole: there are fewer items than candidates in a step
    of training, and an exported graph contains it.

    State: `user` (B, h), the user's share of the first layer.
    """

    serving_class: ClassVar[ServingClass] = "C"
    scoring: ScoringNetwork

    def __init__(self, config: FrameConfig, facts: DatasetFacts) -> None:
        super().__init__()
        self.objective, self.length, self.item_count = config.objective, config.length, facts.item_count
        self.vectors = BehaviourVectors(facts, config.width, config.side, config.side_width)
        self.bias = item_bias(facts, config.popularity_bias)

    def behaviours(self, inputs: Tensors) -> tuple[Tensor, Tensor]:
        """Return vectors (B, T, e), zeros on padding, and the mask (B, T)."""
        mask = (inputs["items"] > 0).to(self.bias.dtype)
        return self.vectors(inputs["items"]) * mask[..., None], mask

    def encoded(self, user: Tensor) -> Encoded:
        """Return the state of user parts (B, z)."""
        return Encoded({"user": self.scoring.user(user)}, {})

    def _shares(self) -> Tensor:
        return torch.as_tensor(self.scoring.candidate(self.vectors.all()))

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        """Return logits of the scoring network, plus the item's bias."""
        logits = self.scoring.rest(state["user"][rows] + F.embedding(candidates, self._shares()))
        return Scored(logits + self.bias[candidates], {})

    def score_lists(self, state: Tensors, candidates: Tensor) -> Tensor:
        """Score one list of candidates (B, N) per row; the user's share is not copied per candidate."""
        first = state["user"][:, None] + F.embedding(candidates, self._shares())
        return self.scoring.rest(first.flatten(0, 1)).view_as(candidates) + self.bias[candidates]

    def score_all(self, state: Tensors) -> Tensor:
        """Score every item for every row, (B, I+1)."""
        first = state["user"][:, None] + self._shares()
        return self.scoring.rest(first.flatten(0, 1)).view(first.shape[:2]) + self.bias

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the objective's loss; batch normalisation goes over all candidates of the batch."""
        return objective_loss(self, batch, self.objective)
