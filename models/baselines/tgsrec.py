"""TGSRec: attention over the interactions that users and items had before a moment, with the time passed as a code.

Fan et al., "Continuous-Time Sequential Recommendation with Temporal Graph Collaborative Transformer", CIKM 2021,
https://arxiv.org/abs/2108.06625, in the form of https://github.com/DyGRec/TGSRec (`model.py`, `graph.py`).

The graph has users and items as nodes and training interactions as edges with a time. For a node v at time t:
h^0_v is its table row. Layer l asks with q = [h^(l-1)_v(t); phi(0)] and attends to the neighbours (j, t_j), t_j < t,
with k_j = v_j = [h^(l-1)_j(t_j); phi(t - t_j)], phi(x) = cos(x w + p). Then a = LN(q + Linear(attended)) and
h^l_v(t) = FFN([a; h^(l-1)_v(t)]), d+D -> d -> d with ReLU. The score is h_u(t) . h_i(t).

Departures:
    - Neighbours are the most recent ones, not drawn at random: random neighbours are random scores. Each layer has its
      own number of them.
    - The user's own neighbours are the history that is handed in, so what is served is a frozen history and not a
      graph that grows with test interactions. The neighbours of its items come from the training log.
    - Item vectors are those at the end of the training log, computed once when training stops, so a candidate costs a
      dot product. In training they are computed at each row's own time, from strictly earlier interactions.
    - The score is the paper's dot product; the repository's MLP on both vectors could not be precomputed, so there is
      no switch for it. An item bias may be added.
    - Days instead of seconds, as differences in milliseconds before any float; w starts between 1 and 1e-4 per day,
      since the published 1 to 1e-9 would leave most of phi constant. Normal tables instead of uniform ones.
    - A node without neighbours attends to nothing (zeros), not to padding. No penalty on the norm of table rows:
      weight decay of the recipe. An unknown user is the zero row.

Key and value maps are applied to the question and to the mixture instead of to every neighbour: the same sums, and far
fewer of them.

Symbols: B rows, T length, M nodes or flat candidates, n neighbours, d width, D = d + width of phi, h heads, R log rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from contract.bundle.tensors import RowInput, SequenceColumn
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
from models.parts.layers import Dropout, item_bias, item_table
from models.parts.objectives import Sampled, objective_loss

Kind = Literal["items", "users"]

_DAY_MS = 86_400_000.0
_SPREAD = 0.5  # of the tables: with 0.1 the code of time, whose entries are near 1, drowns who and what
_CHUNK = 1024  # items whose vectors are computed at once


@dataclass(frozen=True)
class TGSRecConfig:
    """Sizes.

    Attributes:
        length: T.
        width: d.
        time_width: of phi.
        heads: h, a divisor of d + time_width.
        neighbours: most recent neighbours that each layer attends to, the last layer's first. Two layers are published;
            one costs about a fifth, which pays for the negatives that short trainings need.
        dropout: on attention weights and on what was attended to.
        objective: loss over the target and the negatives.
        popularity_bias: item bias that starts at log popularity.
    """

    length: int = 20
    width: int = 32
    time_width: int = 32
    heads: int = 2
    neighbours: tuple[int, ...] = (20, 5)
    dropout: float = 0.3
    objective: Sampled = "bpr"
    popularity_bias: bool = False


class Adjacency(nn.Module):
    """The neighbours of each node with their times, in time order, as flat arrays: entry R means none."""

    def __init__(self, nodes: int, own: NDArray[np.int64], met: NDArray[np.int64], times: NDArray[np.int64]) -> None:
        super().__init__()
        order = np.lexsort((times, own))  # stable: interactions at one moment keep their order
        counts = np.bincount(own, minlength=nodes)
        offsets = np.concatenate(([0], np.cumsum(counts)))
        longest = int(counts.max(initial=1))
        self.steps = tuple(2**power for power in reversed(range(longest.bit_length())))
        arrays = {"offsets": offsets, "met": np.append(met[order], 0), "times": np.append(times[order], 0)}
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array.astype(np.int64)), persistent=False)

    offsets: Tensor
    met: Tensor
    times: Tensor

    def before(self, nodes: Tensor, times: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Return the last n entries strictly before a time, oldest first, and which exist: (M,) -> (M, n), (M, n).

        The bisection goes by falling powers of two, so it needs no division and has a fixed number of steps. It reads
        by `index_select`: a graph would hold the array once for every indexing by brackets.
        """
        first, end = self.offsets.index_select(0, nodes), self.offsets.index_select(0, nodes + 1)
        stop = first
        for step in self.steps:
            ahead = stop + step
            inside = ahead <= end
            earlier = self.times.index_select(0, torch.where(inside, ahead - 1, first)) < times
            stop = torch.where(inside & earlier, ahead, stop)
        entries = stop[:, None] - torch.arange(n, 0, -1, device=stop.device)
        exists = entries >= first[:, None]
        return torch.where(exists, entries, len(self.met) - 1), exists


class TemporalAttention(nn.Module):
    """One layer: a node asks its neighbours, which carry how long ago they were met."""

    def __init__(self, config: TGSRecConfig) -> None:
        super().__init__()
        d, D = config.width, config.width + config.time_width
        if D % config.heads:
            raise ValueError(f"heads {config.heads}: must divide width + time_width = {D}")
        self.heads = config.heads
        self.query, self.key, self.value = (nn.Linear(D, D, bias=False) for _ in range(3))
        self.out, self.norm, self.dropout = nn.Linear(D, D), nn.LayerNorm(D), Dropout(config.dropout)
        self.inner, self.last = nn.Linear(D + d, d), nn.Linear(d, d)

    def forward(self, own: Tensor, now: Tensor, near: Tensor, ago: Tensor, exists: Tensor) -> tuple[Tensor, Tensor]:
        """Return h^l (M, d) and the weights of each head (M, h, n).

        Args:
            own: h^(l-1) of the nodes, (M, d).
            now: phi(0), (1, D - d).
            near: h^(l-1) of the neighbours, (M, n, d).
            ago: phi of the time since, (M, n, D - d).
            exists: which neighbours there are, (M, n).
        """
        asked = torch.cat((own, now.expand(own.shape[0], -1)), dim=-1)
        met = torch.cat((near, ago), dim=-1)
        D, per_head = asked.shape[-1], asked.shape[-1] // self.heads
        q = self.query(asked).view(-1, self.heads, per_head).transpose(0, 1)  # (h, M, D/h)
        q = (q @ self.key.weight.view(self.heads, per_head, D)).transpose(0, 1)  # (M, h, D)
        real = exists.to(own.dtype)[:, None]
        logits = q @ met.transpose(1, 2) / per_head**0.5 + (1 - real) * MASKED
        weights = logits.softmax(dim=-1) * real
        mixed = (self.dropout(weights) @ met).transpose(0, 1)  # (h, M, D)
        mixed = mixed @ self.value.weight.view(self.heads, per_head, D).transpose(1, 2)
        mixed = mixed.transpose(0, 1).reshape(-1, D)
        attended = self.norm(asked + self.dropout(self.out(mixed)))
        return self.last(F.relu(self.inner(torch.cat((attended, own), dim=-1)))), weights


class TGSRec(SequentialRecommender):
    """State: `user` (B, d); in training also `time` (B,), when each row's items are looked at.

    Explanation: `attention` (B, n), weights of the newest behaviours in the last layer, mean over heads.
    """

    from_data: ClassVar[tuple[str, ...]] = ("item_vectors",)
    serving_class: ClassVar[ServingClass] = "A"
    reads_log: ClassVar[bool] = True
    columns: tuple[SequenceColumn, ...] = ("items", "times")
    row_inputs: tuple[RowInput, ...] = ("user", "request_time")

    def __init__(self, config: TGSRecConfig, facts: DatasetFacts) -> None:
        super().__init__()
        if not config.neighbours or min(config.neighbours) < 1:
            raise ValueError(f"neighbours {config.neighbours}: at least one of at least one layer")
        self.length, self.item_count, self._width = config.length, facts.item_count, config.width
        self._counts, self._objective = config.neighbours, config.objective
        self.items, self.bias = item_table(facts, config.width, _SPREAD), item_bias(facts, config.popularity_bias)
        self.users = nn.Embedding(facts.user_count + 1, config.width, padding_idx=0)
        nn.init.normal_(self.users.weight, std=_SPREAD)
        with torch.no_grad():
            self.users.weight[0] = 0.0
        self.rate = nn.Parameter(10 ** -torch.linspace(0, 4, config.time_width))
        self.phase = nn.Parameter(torch.zeros(config.time_width))
        self.layers = nn.ModuleList(TemporalAttention(config) for _ in config.neighbours)
        users, items, times = facts.log
        self.met_by_items = Adjacency(facts.item_count + 1, items, users, times)
        self.met_by_users = Adjacency(facts.user_count + 1, users, items, times)
        self._end = int(times[-1]) + 1 if len(times) else 0
        self.register_buffer("item_vectors", torch.zeros(facts.item_count + 1, config.width))
        self._current = False
        self.register_load_state_dict_post_hook(_vectors_came_along)  # type: ignore[no-untyped-call]

    item_vectors: Tensor

    def train(self, mode: bool = True) -> TGSRec:
        """Switch; leaving training computes the vectors of all items again, at the end of the log."""
        super().train(mode)
        if mode:
            self._current = False
        elif not self._current:
            self._compute_item_vectors()
        return self

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the user at the request's time, whose neighbours are the newest behaviours of the history."""
        own, weights = self.users(inputs["user"]), inputs["items"]
        for level, layer in enumerate(self.layers):
            n = min(self._neighbours(level), self.length)
            ids, times = inputs["items"][:, -n:], inputs["times"][:, -n:]
            near = self._vectors("items", ids.flatten(), times.flatten(), level).view(-1, n, self._width)
            own, weights = layer(own, self._phi_now(), near, self._phi(inputs["request_time"], times), ids > 0)
        state = {"user": own, "time": inputs["request_time"]} if self.training else {"user": own}
        return Encoded(state, {"attention": weights.mean(dim=1)})

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        """Return dot products of users and candidates plus the item's bias; in training, of candidates at that time."""
        if self.training:
            items = self._vectors("items", candidates, state["time"][rows], len(self.layers))
        else:
            items = self.item_vectors[candidates]
        return Scored((state["user"][rows] * items).sum(-1) + self.bias[candidates], {})

    def score_all(self, state: Tensors) -> Tensor:
        """Return scores of every item, (B, I+1); in training one item vector is computed per row and item."""
        if self.training:
            return super().score_all(state)
        return state["user"] @ self.item_vectors.T + self.bias

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the loss of the config's objective, pairwise ranking by default."""
        return objective_loss(self, batch, self._objective)

    def _vectors(self, kind: Kind, nodes: Tensor, times: Tensor, level: int) -> Tensor:
        """Return h^level of nodes (M,) at times (M,), from the log before them: (M, d)."""
        own = torch.as_tensor((self.items if kind == "items" else self.users)(nodes))
        if level == 0:
            return own
        other: Kind = "users" if kind == "items" else "items"
        graph = self.met_by_items if kind == "items" else self.met_by_users
        for below in range(level):
            n = self._neighbours(below)
            entries, exists = graph.before(nodes, times, n)
            flat = entries.flatten()
            if below == 0:
                near = self._vectors(other, graph.met.index_select(0, flat), times, 0)
            else:  # never in `encode`, so never exported: each entry is computed once, however many nodes met it
                some, places = flat.unique(return_inverse=True)  # type: ignore[no-untyped-call]
                near = F.embedding(places, self._vectors(other, graph.met[some], graph.times[some], below))
            near = near.view(-1, n, self._width)
            ago = self._phi(times, graph.times.index_select(0, flat).view(-1, n))
            own, _ = self.layers[below](own, self._phi_now(), near, ago, exists)
        return own

    def _neighbours(self, level: int) -> int:
        return self._counts[-1 - level]

    def _phi(self, now: Tensor, then: Tensor) -> Tensor:
        """Return the code of the time from `then` (M, n) to `now` (M,): (M, n, D - d)."""
        days = (now[:, None] - then).to(self.rate.dtype) / _DAY_MS
        return torch.cos(days[..., None] * self.rate + self.phase)

    def _phi_now(self) -> Tensor:
        return torch.cos(self.phase)[None]

    @torch.no_grad()
    def _compute_item_vectors(self) -> None:
        every = torch.arange(self.item_count + 1, device=self.item_vectors.device)
        chunks = [
            self._vectors("items", some, torch.full_like(some, self._end), len(self.layers))
            for some in torch.split(every, _CHUNK)
        ]
        self.item_vectors.copy_(torch.cat(chunks))
        self._current = True


def _vectors_came_along(model: nn.Module, _: object) -> None:
    """Note that a checkpoint's item vectors belong to the weights that came with them."""
    assert isinstance(model, TGSRec)
    model._current = True
