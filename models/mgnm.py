"""MGNM: multi-grained interests from user-aware graph convolution and capsules, the best level wins.

Tian et al., "When Multi-Level Meets Multi-Interest: A Multi-Grained Neural Model for Sequential Recommendation", SIGIR
2022, https://arxiv.org/abs/2205.01286. Written from its equations; nothing of the published code is copied.

| Equation | Here |
| --- | --- |
| (1) user-aware adjacency | `_adjacency` |
| (2) graph convolution, (3) normalisation | `_levels`, `_normalised` |
| (5)-(9) capsule routing, (10) its BiLSTM | `_interests`, `_rnn` |
| (11) projection of interests | `_interests` (`projection`) |
| (12)-(14) attention over interests, best level | `score` |
| (14)-(17) loss | `loss` |

Departures, each a switch or forced by correctness:
- The attended interest is never built: its dot product is the softmax-weighted mean of the interests' own.
- Routing logits start at zero, not at a random draw per forward pass: scores are a function of the input.
- The BiLSTM reads each row separately, by the row's length. The published code mixes rows of a batch through a wrong
  reshape, and so sees labels through batch positions.
- An item bias that starts at log popularity (`popularity_bias`), and capsule, projection and graph matrices that start
  near the identity (`aligned_start`): without them the model stays below popularity.
- `projection="linear"` by default; the paper's ReLU is a switch.
- The loss is softmax over the target and its negatives, or the paper's binary cross-entropy with the bias's intercept.
- An unknown user's vector is all ones, which makes the graph user-free.

Symbols: B rows, T length, d width, K interests, L levels above the raw one, M flat candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import (
    DatasetFacts,
    Encoded,
    Scored,
    SequentialRecommender,
    ServingClass,
    Tensors,
    TrainingBatch,
)
from models.parts.capsules import agreement, capsules
from models.parts.layers import Dropout, item_bias, item_table
from models.parts.objectives import Sampled, objective_loss, row_mean, sampled_losses


@dataclass(frozen=True)
class MGNMConfig:
    """Sizes and switches.

    Attributes:
        length: T.
        width: d.
        interests: K.
        levels: graph convolutions; level 0 is the raw sequence.
        rnn_width: hidden size of the BiLSTM per direction; 0 leaves the BiLSTM out.
        rnn_gradient_every: training steps between those that reach the BiLSTM (it only moves routing logits).
        user_aware: whether the adjacency uses the user's vector (eq 1).
        norm: symmetric normalisation of eq 3, or none.
        positional: one capsule matrix per position too (indexed by recency), as in the published code.
        projection: of interests (eq 11).
        aligned_start: capsule and projection matrices start near the identity.
        popularity_bias: item bias that starts at log popularity.
        objective: softmax over target and negatives, binary cross-entropy as in the paper, or another sampled loss.
        negatives: per positive, for the intercept of binary cross-entropy: the bias starts lower by their log.
        l1: weight of the sum of |A|, per row of the batch.
        l2: weight of half the squared norm of all weights, per row of the batch.
        dropout: on item vectors of the history; the paper has none.
    """

    length: int = 50
    width: int = 32
    interests: int = 4
    levels: int = 1
    rnn_width: int = 16
    rnn_gradient_every: int = 1
    user_aware: bool = True
    norm: Literal["sym", "none"] = "sym"
    positional: bool = False
    projection: Literal["relu", "linear", "none"] = "linear"
    aligned_start: bool = True
    popularity_bias: bool = True
    objective: Sampled = "softmax"
    negatives: int = 100
    l1: float = 0.0
    l2: float = 0.0
    dropout: float = 0.2


class MGNM(SequentialRecommender):
    """State: `interests` (B, L+1, K, d). Explanation of a score: `level` (M,), the level that won."""

    serving_class: ClassVar[ServingClass] = "B"
    context_state: ClassVar[str | None] = "interests"

    def __init__(self, config: MGNMConfig, facts: DatasetFacts) -> None:
        super().__init__()
        self.config, self.length, self.item_count = config, config.length, facts.item_count
        d, K = config.width, config.interests
        self.items = item_table(facts, d, 0.1)
        user_aware = config.user_aware and config.levels > 0  # without a convolution the graph reaches no score
        self.users = nn.Embedding(facts.user_count + 1, d) if user_aware else None
        self.row_inputs = ("user",) if user_aware else ()
        intercept = -math.log(config.negatives) if config.objective == "bce" else 0.0
        self.bias = item_bias(facts, config.popularity_bias, intercept)
        self.convolution = nn.Linear(d, d) if config.levels else None
        self.capsules = nn.Parameter(torch.empty(*((config.length,) if config.positional else ()), K, d, d))
        self.projection = nn.Parameter(torch.empty(K, d, d)) if config.projection != "none" else None
        if config.rnn_width:
            self.forward_rnn = nn.LSTM(K * d, config.rnn_width, batch_first=True)
            self.backward_rnn = nn.LSTM(K * d, config.rnn_width, batch_first=True)
            self.rnn_out = nn.Linear(2 * config.rnn_width, K * d)
        self.dropout = Dropout(config.dropout)
        self._steps = 0
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        config = self.config
        if self.users is not None:
            nn.init.ones_(self.users.weight)  # every user starts as the unknown one
        eye, std = torch.eye(config.width), 0.1 if config.aligned_start else 1 / math.sqrt(config.width)
        nn.init.normal_(self.capsules, std=std)
        if self.projection is not None:
            nn.init.normal_(self.projection, std=std)
        if config.aligned_start:
            self.capsules.add_(eye)
            if self.projection is not None:
                self.projection.copy_(3 * eye.expand_as(self.projection))
            if self.convolution is not None:
                self.convolution.weight.copy_(eye)
                nn.init.zeros_(self.convolution.bias)
        if config.rnn_width:
            for rnn in (self.forward_rnn, self.backward_rnn):
                bias = rnn.get_parameter("bias_ih_l0")
                bias[config.rnn_width : 2 * config.rnn_width] = 1.0  # the forget gate, as in TensorFlow

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the interests of every level (sections 2 and 3 of the paper)."""
        q, _ = self._encode(inputs)
        return Encoded({"interests": q}, {})

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        """Return the best level's attended dot product plus the item's bias, and which level it was (eq 12-14)."""
        dots = (state["interests"][rows] * self.items(candidates)[:, None, None, :]).sum(-1)  # (M, L+1, K)
        best, level = _attended(dots, dim=-1).max(dim=-1)
        return Scored(best + self.bias[candidates], {"level": level})

    def score_all(self, state: Tensors) -> Tensor:
        """Return `score` of every item by one product, (B, I+1)."""
        dots = state["interests"] @ self.items.weight.T  # (B, L+1, K, I+1)
        return _attended(dots, dim=2).amax(dim=1) + self.bias

    def score_lists(self, state: Tensors, candidates: Tensor) -> Tensor:
        """Return `score` of lists (B, N) by one product per row."""
        return _attended(self._dots(state["interests"], candidates), dim=2).amax(dim=1) + self.bias[candidates]

    def score_shared(self, state: Tensors, items: Tensor) -> Tensor:
        """Return `score` of the same items for every row, (B, N)."""
        return self.score_lists(state, items)

    def _dots(self, interests: Tensor, items: Tensor) -> Tensor:
        """Return the dot products of every interest with items (B, N), or (N,) for all rows: (B, L+1, K, N)."""
        dots = interests.flatten(1, 2) @ self.items(items).transpose(-1, -2)
        return torch.as_tensor(dots.view(*interests.shape[:3], -1))

    def begin_epoch(self) -> None:
        """See the base class: it depends on the step whether the BiLSTM learns."""
        self._steps = 0

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the loss summed over levels (eq 14-17), a mean over rows."""
        if batch.labels is not None:
            return objective_loss(self, batch, self.config.objective)
        self._steps += 1
        q, adjacency = self._encode(batch.inputs)
        q = self.in_context({"interests": q}, batch.inputs)["interests"]

        def score(items: Tensor) -> Tensor:  # (B, L+1, N)
            return _attended(self._dots(q, items), dim=2) + self.bias[items].unsqueeze(-2)

        fit = row_mean(sampled_losses(batch, self.config.objective, score).sum(dim=1), batch.weights)
        return fit + self._penalty(adjacency) / len(batch.targets)

    def _penalty(self, adjacency: Tensor) -> Tensor:
        """Return both regularisers as the paper sums them, over the batch; A is never negative, so |A| = A."""
        penalty = adjacency.new_zeros(())
        if self.config.l1:
            penalty = penalty + self.config.l1 * adjacency.sum()
        if self.config.l2:
            squares = torch.stack([(weight * weight).sum() for weight in self.parameters()])
            penalty = penalty + self.config.l2 * 0.5 * squares.sum()
        return penalty

    def _encode(self, inputs: Tensors) -> tuple[Tensor, Tensor]:
        """Return the interests (B, L+1, K, d) and the adjacency (B, T, T)."""
        ids = inputs["items"]
        mask = (ids > 0).to(self.items.weight.dtype)  # (B, T)
        x = self.dropout(self.items(ids)) * mask[..., None]
        adjacency = self._adjacency(x, mask, inputs)
        levels = self._levels(x, mask, adjacency)
        # The same weights serve every level, so all levels are routed as rows of one larger batch.
        routed = self._interests(torch.cat(levels), mask.repeat(len(levels), 1))
        return routed.view(len(levels), -1, *routed.shape[1:]).transpose(0, 1), adjacency

    def _adjacency(self, x: Tensor, mask: Tensor, inputs: Tensors) -> Tensor:
        """Eq 1: sigma(sum_k x_ik x_jk u_k), zero on padding; (B, T, T)."""
        left = x
        if self.users is not None:
            known = (inputs["user"] > 0).to(x.dtype)[:, None]
            left = x * (self.users(inputs["user"]) * known + (1 - known))[:, None, :]
        return torch.sigmoid(left @ x.transpose(1, 2)) * mask[:, :, None] * mask[:, None, :]

    def _levels(self, x: Tensor, mask: Tensor, adjacency: Tensor) -> list[Tensor]:
        """Eq 2 and 3: the raw sequence and each convolution of the one before, W shared by the levels."""
        levels = [x]
        if self.convolution is None:
            return levels
        graph = adjacency
        if self.config.norm == "sym":
            loops = torch.eye(self.length, device=x.device) * mask[:, :, None]
            graph = _normalised(loops + _normalised(adjacency))
        for _ in range(self.config.levels):
            levels.append(F.leaky_relu(self.convolution(graph @ levels[-1]), 0.2) * mask[..., None])
        return levels

    def _interests(self, level: Tensor, mask: Tensor) -> Tensor:
        """Eq 5-11: three routing passes, the second over what the BiLSTM adds; (B, K, d)."""
        if self.config.positional:
            z = torch.einsum("btd,tkde->bkte", level, self.capsules)
        else:
            z = torch.einsum("btd,kde->bkte", level, self.capsules)
        z = z * mask[:, None, :, None]
        still = z.detach() if self.training else z
        logits = torch.zeros_like(z[..., 0])  # (B, K, T)
        logits = logits + agreement(still, capsules(still, logits, mask))
        routed = still + self._added(still, mask) if self.config.rnn_width else still
        logits = logits + agreement(routed, capsules(routed, logits, mask))
        o = capsules(z, logits, mask)
        if self.projection is None:
            return o
        q = torch.einsum("bkd,kde->bke", o, self.projection)
        return F.relu(q) if self.config.projection == "relu" else q

    def _added(self, still: Tensor, mask: Tensor) -> Tensor:
        # The gradient of the BiLSTM moves only the routing logits, and costs more than all other gradients.
        if self.training and self._steps % self.config.rnn_gradient_every:
            with torch.no_grad():
                return self._rnn(still, mask)
        return self._rnn(still, mask)

    def _rnn(self, z: Tensor, mask: Tensor) -> Tensor:
        """Eq 10: a BiLSTM over each row's own real positions, exact for left padding; (B, K, T, d)."""
        B, K, T, d = z.shape
        sequence = z.transpose(1, 2).reshape(B, T, K * d)
        places = torch.arange(T, device=z.device)
        length = mask.sum(dim=1, keepdim=True).to(torch.int64)  # (B, 1)
        to_left = torch.remainder(places + T - length, T)  # real positions first, padding after them
        back = torch.remainder(places + length, T)
        mirror = torch.where(places < length, length - 1 - places, places)
        shifted = _gather(sequence, to_left)
        forward, _ = self.forward_rnn(shifted)
        backward, _ = self.backward_rnn(_gather(shifted, mirror))
        out = self.rnn_out(torch.cat((forward, _gather(backward, mirror)), dim=-1))
        out = _gather(out, back) * mask[..., None]
        return out.view(B, T, K, d).transpose(1, 2)


def _attended(dots: Tensor, dim: int) -> Tensor:
    """Return the softmax-weighted mean over interests: the dot product with the attended interest (eq 12-14)."""
    return (dots.softmax(dim=dim) * dots).sum(dim)


def _normalised(matrix: Tensor) -> Tensor:
    """Return D^-1/2 M D^-1/2 with D the row sums; zero rows stay zero."""
    degree = matrix.sum(dim=-1)
    root = torch.where(degree > 0, degree.clamp_min(1e-12).rsqrt(), torch.zeros_like(degree))
    return matrix * root[:, :, None] * root[:, None, :]


def _gather(sequence: Tensor, index: Tensor) -> Tensor:
    """Return sequence (B, T, C) with its positions in the order of index (B, T)."""
    return torch.gather(sequence, 1, index[..., None].expand(-1, -1, sequence.shape[-1]))
