"""SURGE: a behaviour sequence becomes a graph of similar behaviours, is smoothed, pooled for a candidate, and read.

Chang et al., "Sequential Recommendation with Graph Neural Networks", SIGIR 2021, https://arxiv.org/abs/2106.14226, in
the form of https://github.com/tsinghua-fib-lab/SIGIR21-SURGE. Written from a description of it; nothing is copied.

| Part of the paper | Here |
| --- | --- |
| interest graph: metric learning, sparsification | `_graph` |
| cluster- and query-aware attention, interest fusion | `_fused` |
| interest extraction: cluster score and pooling | `_pooled` |
| prediction: attention and AUGRU over what is kept | `_read`, `_candidate`, `_logits` |

**It is slow.** Every candidate pools and reads the sequence again: two attention networks over T behaviours and T steps
of a recurrent net, 0.91 M multiply-adds at T = 50 and 0.56 M at T = 30 (d = h = 40), against some dozens for a
dot product. Hundreds of candidates a request, not thousands.

An identity of the published code that is used: a behaviour gathers its neighbours by softmax_j(LeakyReLU(f1_j + f2_i)),
where f1 (of clusters) and f2 (of the candidate) are themselves results of a softmax. They are never negative, so the
LeakyReLU does nothing, f2_i is one number for all j and drops out, and the fused behaviours do not depend on the
candidate: `encode` computes them; a literal forward pass would cost five times as much per candidate.

Departures:
- Edges carry the similarity (`learn_graph`), so the metric learns. In the published code edges are 0 or 1 and the
  metric keeps its random start; without the switch ours stays at ones.
- Similarities are scaled per row among only the real behaviours, by a range of at least 0.01.
- Exactly the requested number of edges and behaviours is kept; similarities and scores are compared to a grid, and
  later ones win ties, so that rounding errors of a runtime have no effect.
- One pooling layer, after which the pooled graph is never read and so not built; none of the paper's regularisers.
- The AUGRU is in PyTorch's form (reset gate after the product) and passes over what is not kept.
- The scoring network is the frame's, but its input has no part that depends only on the user. An item bias that may
start at
  log popularity. Dropout on behaviour vectors and in the scoring network.

Symbols: B rows, T length, d width of a behaviour vector, h hidden width, M flat candidates, G groups of N candidates
each under one user's state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import DatasetFacts, Encoded, Scored, SequentialRecommender, ServingClass, Tensors, TrainingBatch
from models.baselines.deeprec import BehaviourVectors, PairAttention, by_length, masked_softmax
from models.parts.layers import Dropout, item_bias
from models.parts.objectives import Objective, objective_loss

_GRID = 2.0**14  # of similarities
_SCORE_GRID = 2.0**20  # of cluster scores, which differ by less


@dataclass(frozen=True)
class SURGEConfig:
    """Sizes and switches.

    Attributes:
        length: T.
        width: of an item's vector; with its categories it is d.
        side: item features that serve as categories, each `side_width` wide.
        side_width: of each category.
        hidden: h, of the AUGRU.
        edges: share of a sequence's edges that is kept.
        pool: behaviours that are kept for a candidate.
        learn_graph: whether kept edges carry their similarity.
        dropout: on behaviour vectors and in the scoring network.
        popularity_bias: item bias that starts at log popularity.
        objective: see models/parts/objectives.py.
    """

    length: int = 50
    width: int = 32
    side: tuple[str, ...] = ()
    side_width: int = 8
    hidden: int = 40
    edges: float = 0.5
    pool: int = 30
    learn_graph: bool = True
    dropout: float = 0.2
    popularity_bias: bool = False
    objective: Objective = "softmax"


class SURGE(SequentialRecommender):
    """State: fused behaviours, their cluster scores, and their shares of what a candidate computes with them."""

    serving_class: ClassVar[ServingClass] = "E"
    context_state: ClassVar[str | None] = "behaviours"  # it has no vector of the user

    def __init__(self, config: SURGEConfig, facts: DatasetFacts) -> None:
        super().__init__()
        if not (0 < config.edges < 1 and config.pool > 0):
            raise ValueError(f"surge: edges {config.edges}, pool {config.pool}: a share, and at least 1")
        self.config, self.length, self.item_count = config, config.length, facts.item_count
        self.vectors = BehaviourVectors(facts, config.width, config.side, config.side_width)
        self.bias, self.dropout = item_bias(facts, config.popularity_bias), Dropout(config.dropout)
        d, h = self.vectors.width, config.hidden
        self.metric = nn.Parameter(torch.ones(d), requires_grad=config.learn_graph)
        self.cluster, self.query, self.reading = (PairAttention(d, d) for _ in range(3))
        self.fusion = nn.Linear(d, d, bias=False)
        self.of_behaviour, self.of_state = nn.Linear(d, 3 * h), nn.Linear(h, 3 * h)
        self.head = nn.Sequential()
        for inputs, outputs in ((h + 3 * d, 100), (100, 64)):
            self.head.extend((nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), Dropout(config.dropout)))
        self.head.append(nn.Linear(64, 1))

    def encode(self, inputs: Tensors) -> Encoded:
        """Build the graph, fuse the behaviours over it, and score clusters: all of it is free of the candidate."""
        ids = inputs["items"]
        mask = (ids > 0).to(self.metric.dtype)  # (B, T)
        x = self.dropout(self.vectors(ids)) * mask[..., None]
        graph, neighbours = self._graph(x, mask)
        x = self._fused(x, mask, graph, neighbours)
        query_keys, query_share = self.query.keys(x)
        reading_keys, reading_share = self.reading.keys(x)
        state = {
            "behaviours": x,
            "mask": mask,
            "cluster_scores": self._cluster_scores(x, mask, graph),
            "query_keys": query_keys,
            "query_share": query_share,
            "reading_keys": reading_keys,
            "reading_share": reading_share,
            "of_behaviour": self.of_behaviour(x),
        }
        return Encoded(state, {})

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        """Return logits of the sequence, pooled and read for each candidate, plus the item's bias."""
        z = self._candidate({name: tensor[rows] for name, tensor in state.items()}, candidates[:, None])
        return Scored(self._logits(z).squeeze(1) + self.bias[candidates], {})

    def score_all(self, state: Tensors) -> Tensor:
        """Return `score` of every item without copies of the state, (B, I+1)."""
        items = torch.arange(self.item_count + 1, device=self.bias.device)
        return self.score_lists(state, items.expand(len(state["mask"]), -1))

    def score_lists(self, state: Tensors, candidates: Tensor) -> Tensor:
        """Return `score` of lists (B, N); the state is not copied per candidate."""
        return self._logits(by_length(state, candidates, self._candidate)) + self.bias[candidates]

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the objective's loss."""
        return objective_loss(self, batch, self.config.objective)

    def _graph(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalised adjacency Ah (B, T, T), and 1 if there is an edge; all have one to themselves."""
        pairs = mask[:, :, None] * mask[:, None, :]
        weighted = x * self.metric
        unit = weighted * torch.rsqrt((weighted * weighted).sum(dim=-1, keepdim=True) + 1e-9)
        cosine = unit @ unit.transpose(1, 2)
        real = mask[:, None, :] > 0
        least = torch.where(real, cosine, 2.0).amin(dim=-1, keepdim=True)
        most = torch.where(real, cosine, -2.0).amax(dim=-1, keepdim=True)
        similarity = (cosine - least) / (most - least).clamp_min(0.01) * pairs
        steps = torch.round(similarity.detach() * _GRID).flatten(1)  # (B, T * T)
        asked = torch.ceil((steps > 0).to(x.dtype).sum(dim=-1, keepdim=True) * self.config.edges).to(torch.int64)
        order = _distinct(steps)
        # Half of all edges at most is asked for, and there are fewer than T * T: the index exists.
        bound = torch.gather(order.sort(dim=-1, descending=True).values, 1, asked)
        loops = torch.eye(self.length, device=x.device)
        kept = (order > bound).to(x.dtype).view_as(pairs) * pairs * (1 - loops)
        neighbours = kept + loops * pairs
        edges = kept * similarity + loops * pairs if self.config.learn_graph else neighbours
        root = torch.rsqrt(edges.sum(dim=-1) + 1e-9) * mask
        return edges * root[:, :, None] * root[:, None, :], neighbours

    def _cluster_scores(self, x: Tensor, mask: Tensor, graph: Tensor) -> Tensor:
        """Return f1 (B, T): attention of each behaviour's cluster, two steps of the graph around it, to itself."""
        a, share = self.cluster.keys(x)
        clusters = graph @ (graph @ x)
        return masked_softmax(self.cluster.logits(a[:, :, None], share[:, :, None], clusters).squeeze(-1), mask)

    def _fused(self, x: Tensor, mask: Tensor, graph: Tensor, neighbours: Tensor) -> Tensor:
        """Return behaviours with their neighbours, weighted by softmax of f1: see the identity above."""
        weights = masked_softmax(self._cluster_scores(x, mask, graph)[:, None, :].expand_as(neighbours), neighbours)
        return F.leaky_relu(self.fusion(weights @ x) + x, 0.2)

    def _candidate(self, state: Tensors, candidates: Tensor) -> Tensor:
        """Return what the scoring network reads (G, N, h + 3d) of candidates (G, N) under the states of G users."""
        t = self.vectors(candidates)  # (G, N, d)
        readout, kept = self._pooled(state, t)
        return torch.cat((self._read(state, t, kept), readout, t, readout * t), dim=-1)

    def _logits(self, z: Tensor) -> Tensor:
        """Return logits (G, N); batch normalisation goes over all of them."""
        return torch.as_tensor(self.head(z.flatten(0, 1)).view(z.shape[:2]))

    def _pooled(self, state: Tensors, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the readout (G, N, d) and 1 for kept behaviours (G, N, T): those with the best scores c."""
        mask = state["mask"][:, None]
        logits = self.query.logits(state["query_keys"][:, None], state["query_share"][:, None], t)
        fitness = state["cluster_scores"][:, None] + masked_softmax(logits, mask)
        kept = mask
        if self.config.pool < mask.shape[-1]:
            # Scores are between 0 and 2; padding comes after them all.
            order = _distinct(torch.round((fitness.detach() * mask + mask - 1) * _SCORE_GRID))
            bound = order.topk(self.config.pool, dim=-1).values[..., -1:]
            kept = (order >= bound).to(t.dtype) * mask
        scores = masked_softmax(fitness, mask) * kept
        return scores @ state["behaviours"], kept

    def _read(self, state: Tensors, t: Tensor, kept: Tensor) -> Tensor:
        """Return the AUGRU's state (G, N, h) after the kept behaviours; attention reduces its update gate."""
        logits = self.reading.logits(state["reading_keys"][:, None], state["reading_share"][:, None], t)
        open_by = kept * (1 - masked_softmax(logits, kept.expand_as(logits)))
        held = (1 - kept).expand_as(logits)
        h, sizes = t.new_zeros(self.config.hidden), [2 * self.config.hidden, self.config.hidden]
        gates_of, new_of = (part.unbind(dim=-2) for part in torch.split(state["of_behaviour"][:, None], sizes, dim=-1))
        steps = zip(gates_of, new_of, open_by.unbind(dim=-1), held.unbind(dim=-1), strict=True)
        for gates_of_behaviour, new_of_behaviour, opened, hold in steps:
            gates_of_state, new_of_state = torch.split(self.of_state(h), sizes, dim=-1)
            reset, update = torch.sigmoid(gates_of_behaviour + gates_of_state).chunk(2, dim=-1)
            new = torch.tanh(new_of_behaviour + reset * new_of_state)
            update = hold[..., None] + opened[..., None] * update  # 1 passes over a behaviour
            h = new + update * (h - new)
        return h


def _distinct(steps: Tensor) -> Tensor:
    """Return whole numbers in the order of whole steps (..., n), no two alike: the later of equals is larger."""
    n = steps.shape[-1]
    return steps.to(torch.int64) * n + torch.arange(n, device=steps.device)
