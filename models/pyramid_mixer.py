"""Pyramid Mixer: an MLP-Mixer across behaviours and across features, stacked over short, middle and long periods.

Gong et al., "Pyramid Mixer: Multi-dimensional Multi-period Interest Modeling for Sequential Recommendation", SIGIR
2025, https://arxiv.org/abs/2506.16942. No code is public and the body of the paper was out of reach: the parts (two
mixers in parallel, adaptive fusion, pyramid, low rank, cross-period module) are the paper's, their equations are one
consistent reading of it, written out in docs/adr/0010-pyramid-mixer-reading.md, with every component behind a switch.
The file is long because one paper is one file: its parts are read together, and no other file uses them.

| Part | Here |
| --- | --- |
| cross-behaviour mixer, own weights per field | `CrossBehaviour` |
| cross-feature mixer, the same weights at every position | `CrossFeature` |
| adaptive fusion of both | `MixerLayer` |
| low-rank weights | `LowRank` |
| pyramid: halving the sequence between scales | `Halving` |
| within a period, among periods, readout | `CrossPeriod` |
| next-item head (class A), ranking head (class C) | `score`, `RankingHead` |

Our additions, all off by default: `readout="concat"`, `out_side`, `side_group`, the behaviour fields `rating` and
`gap`, `activation="silu"`, and the item bias from log popularity.

Weights along L are indexed by recency: a model of one length cannot serve another, and the score of a history depends
on how it falls into pairs, never on the content of the padding.

Symbols: B rows, L length, F fields, d width, C = F*d channels, S scales, M flat candidates, I items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import (
    MASKED,
    DatasetFacts,
    Encoded,
    NegativesError,
    NewRows,
    Scored,
    SequentialRecommender,
    ServingClass,
    Tensors,
    TrainingBatch,
)
from models.parts.features import GAP_BINS, RATING_BINS, gap_bins, rating_bins, side_columns
from models.parts.item_feature import ItemFeature, field_table
from models.parts.layers import Dropout, item_bias, item_table
from models.parts.new_items import IdPart, ItemParts, check_share
from models.parts.objectives import Objective, objective_loss, row_mean
from models.parts.targets import WEIGHTS, Target, targets_loss

_START = 0.02  # of the tables, as SASRec's: items seen seldom keep their start, and a large one is noise


@dataclass(frozen=True)
class PyramidMixerConfig:
    """Sizes and switches; the names in brackets are the equations' own.

    Attributes:
        length: L, a multiple of 2^(scales-1).
        width: d.
        scales: S.
        layers: mixer layers per scale (n_s).
        expand_behaviour: hidden over input size of the cross-behaviour mixer (eL).
        expand_feature: the same of the cross-feature mixer (eC).
        rank_behaviour: of the cross-behaviour matrices (rL).
        rank_feature: of the cross-feature and halving matrices (rC).
        rank_gate: of the fusion gate (rg).
        low_rank: False keeps full matrices.
        side: item features read as fields of a behaviour.
        rating, gap: the behaviour's value, and the log of the time since the one before, as fields.
        side_group: all fields but the item share one d-wide field.
        out_side: the candidate's vector is its id row plus a linear map of its features.
        id_dropout: share of items whose ids are taken away at each training step (models/parts/new_items.py).
        cross_behaviour, cross_feature: components, each off for an ablation.
        cross_period: False reads the newest slot of the first scale, and leaves the coarser scales out.
        fusion: gate, or the plain mean of both mixers.
        pyramid: pool halves the sequence; window reads the newest L/2^(S-1-s) behaviours at scale s.
        causal: lower-triangular mixing along L, full rank.
        readout: of the periods, weighted mean (attention) or all of them side by side (concat).
        activation: gelu, or silu, whose backward is far cheaper on a CPU.
        head: next_item, or ranking (binary, for click or long view).
        objective: of the next-item head; full softmax, or a sampled loss.
        targets: outcomes of an impression that the ranking head learns, each with its weights in the loss and in the
            score (models/parts/targets.py); none = one label.
        popularity_bias: item bias that starts at log popularity.
        dropout: after the input, inside the feature mixer, and on each residual.
    """

    length: int = 52
    width: int = 64
    scales: int = 3
    layers: int = 2
    expand_behaviour: int = 2
    expand_feature: int = 2
    rank_behaviour: int = 8
    rank_feature: int = 64
    rank_gate: int = 32
    low_rank: bool = True
    side: tuple[str, ...] = ()
    rating: bool = False
    gap: bool = False
    side_group: bool = False
    out_side: bool = False
    id_dropout: float = 0.0
    cross_behaviour: bool = True
    cross_feature: bool = True
    cross_period: bool = True
    fusion: Literal["gate", "mean"] = "gate"
    pyramid: Literal["pool", "window"] = "pool"
    causal: bool = False
    readout: Literal["attention", "concat"] = "attention"
    activation: Literal["gelu", "silu"] = "gelu"
    head: Literal["next_item", "ranking"] = "next_item"
    objective: Objective = "full"
    targets: dict[str, Target] = field(default_factory=dict)
    popularity_bias: bool = False
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if self.length % 2 ** (self.scales - 1):
            raise ValueError(f"pyramid_mixer: length {self.length} is not a multiple of 2^(scales-1)")
        if self.targets and (self.head != "ranking" or not any(one.loss for one in self.targets.values())):
            raise ValueError('pyramid_mixer: targets: need head = "ranking", and a loss above 0')
        check_share(self.id_dropout, self.side, candidates=self.out_side or self.head == "ranking")

    @property
    def periods(self) -> int:
        """Scales that are computed; scales that are not read are not built."""
        return self.scales if self.cross_period else 1


class LowRank(nn.Module):
    """x -> (x Q) P + b, nothing between; `groups` of weights where each has its own (G, ..., i) -> (G, ..., o).

    Both factors start so that Var((QP)_ij) is Xavier's. Full rank when `rank` is 0.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, groups: int = 0) -> None:
        super().__init__()
        lead = (groups,) if groups else ()
        self.bias = nn.Parameter(torch.zeros(*lead, *((1,) if groups else ()), outputs))
        sizes = ((inputs, rank), (rank, outputs)) if rank else ((inputs, outputs),)
        self.factors = nn.ParameterList(nn.Parameter(torch.empty(*lead, *size)) for size in sizes)
        xavier = 2 / (inputs + outputs)
        std = (xavier / rank) ** 0.25 if rank else math.sqrt(xavier)
        for factor in self.factors:
            nn.init.normal_(factor, std=std)

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis."""
        for factor in self.factors:
            x = x @ factor
        return x + self.bias


class CrossBehaviour(nn.Module):
    """Mix along L, with own weights per field, shared by the d channels of the field."""

    def __init__(self, config: PyramidMixerConfig, fields: int, length: int) -> None:
        super().__init__()
        self.fields, self.length, self.causal = fields, length, config.causal
        rank = config.rank_behaviour if config.low_rank and not config.causal else 0
        hidden = config.expand_behaviour * length
        self.up = LowRank(length, hidden, rank, groups=fields)
        self.down = LowRank(hidden, length, rank, groups=fields)
        self.activation = _activation(config)
        inputs, outputs = torch.arange(length), torch.arange(hidden) % length  # the position a hidden unit belongs to
        self.register_buffer("up_reach", (inputs[:, None] <= outputs).float(), persistent=False)
        self.register_buffer("down_reach", (outputs[:, None] <= inputs).float(), persistent=False)

    up_reach: Tensor
    down_reach: Tensor

    def forward(self, u: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        B, L, C = u.shape
        d = C // self.fields
        x = u.view(B, L, self.fields, d).permute(2, 0, 3, 1).reshape(self.fields, B * d, L)
        if self.causal:
            hidden = self.activation(x @ (self.up.factors[0] * self.up_reach) + self.up.bias)
            x = hidden @ (self.down.factors[0] * self.down_reach) + self.down.bias
        else:
            x = self.down(self.activation(self.up(x)))
        return torch.as_tensor(x).view(self.fields, B, d, L).permute(1, 3, 0, 2).reshape(B, L, C)


class CrossFeature(nn.Module):
    """Mix along C, the same weights at every position."""

    def __init__(self, config: PyramidMixerConfig, channels: int) -> None:
        super().__init__()
        rank = config.rank_feature if config.low_rank else 0
        self.up = LowRank(channels, config.expand_feature * channels, rank)
        self.down = LowRank(config.expand_feature * channels, channels, rank)
        self.activation = _activation(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, u: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        return torch.as_tensor(self.down(self.dropout(self.activation(self.up(u)))))


class MixerLayer(nn.Module):
    """Both mixers side by side on one normed input, fused per position and channel, one residual."""

    def __init__(self, config: PyramidMixerConfig, fields: int, length: int) -> None:
        super().__init__()
        channels = fields * config.width
        self.norm = nn.LayerNorm(channels)
        self.behaviour = CrossBehaviour(config, fields, length) if config.cross_behaviour else None
        self.feature = CrossFeature(config, channels) if config.cross_feature else None
        both = config.cross_behaviour and config.cross_feature
        rank = config.rank_gate if config.low_rank else 0
        self.gate = LowRank(2 * channels, channels, rank) if both and config.fusion == "gate" else None
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, L, C) and mask (B, L, 1) -> (B, L, C); padding stays zero."""
        u = self.norm(x) * mask
        branches = [branch(u) for branch in (self.behaviour, self.feature) if branch is not None]
        if self.gate is not None:  # fusion is per position, so only the last mask is needed to keep padding out
            g = torch.sigmoid(self.gate(torch.cat(branches, dim=-1)))
            mixed = torch.lerp(branches[1], branches[0], g)
        else:
            mixed = sum(branches, torch.zeros_like(x)) / max(len(branches), 1)
        return torch.as_tensor((x + self.dropout(mixed)) * mask)


class Halving(nn.Module):
    """The next scale: the mean of each pair's real behaviours plus a low-rank map of the pair."""

    def __init__(self, config: PyramidMixerConfig, channels: int) -> None:
        super().__init__()
        self.map = LowRank(2 * channels, channels, config.rank_feature if config.low_rank else 0)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, C), (B, L, 1) -> (B, L/2, C), (B, L/2, 1); the newest behaviour is in the last pair."""
        B, L, C = x.shape
        pair = x.view(B, L // 2, 2, C)  # zero on padding, as every layer leaves it
        real = mask.view(B, L // 2, 2, 1)
        mean = pair.sum(dim=2) / real.sum(dim=2).clamp_min(1.0)
        kept = real.amax(dim=2)
        return (mean + self.map(pair.reshape(B, L // 2, 2 * C))) * kept, kept


class CrossPeriod(nn.Module):
    """Attention inside each period, a mixer among periods, and a readout of all."""

    def __init__(self, config: PyramidMixerConfig, channels: int) -> None:
        super().__init__()
        d, S = config.width, config.scales
        self.inner = nn.ModuleList(nn.Linear(channels, d, bias=False) for _ in range(S))
        self.attend = nn.ModuleList(nn.Linear(d, 1, bias=False) for _ in range(S))
        self.out = nn.ModuleList(nn.Linear(2 * channels, d, bias=False) for _ in range(S))
        self.norm_periods, self.norm_channels = nn.LayerNorm(d), nn.LayerNorm(d)
        self.periods = nn.Sequential(nn.Linear(S, 2 * S), _activation(config), nn.Linear(2 * S, S))
        self.channels = nn.Sequential(nn.Linear(d, 2 * d), _activation(config), nn.Linear(2 * d, d))
        self.concat = nn.Linear(S * d, d) if config.readout == "concat" else None
        self.weigh = nn.Linear(d, 1, bias=False) if config.readout == "attention" else None
        self.norm = nn.LayerNorm(d)

    def forward(self, scales: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the user's vector (B, d), the periods' vectors (B, S, d), and the periods' weights (B, S)."""
        real = scales[0][1].amax(dim=1)  # (B, 1): 0 for an empty history, whose vector is the norm's bias
        h = torch.stack([self._period(s, x, mask) for s, (x, mask) in enumerate(scales)], dim=1)
        h = h + self.periods(self.norm_periods(h).transpose(1, 2)).transpose(1, 2)
        h = (h + self.channels(self.norm_channels(h))) * real[:, :, None]
        u, weights = self._readout(h)
        return self.norm(u * real), h, weights

    def _readout(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return u before its norm, and beta; without beta (concat), each period's share of u by length."""
        if self.weigh is not None:
            beta = self.weigh(h).squeeze(-1).softmax(dim=-1)
            return (beta[..., None] * h).sum(dim=1), beta
        assert self.concat is not None
        d = h.shape[-1]
        parts = torch.stack(
            [F.linear(h[:, s], self.concat.weight[:, s * d : (s + 1) * d]) for s in range(h.shape[1])], 1
        )
        lengths = torch.sqrt((parts * parts).sum(dim=-1) + 1e-12)
        return parts.sum(dim=1) + self.concat.bias, lengths / lengths.sum(dim=-1, keepdim=True)

    def _period(self, s: int, x: Tensor, mask: Tensor) -> Tensor:
        energy = self.attend[s](torch.tanh(self.inner[s](x))) + (1 - mask) * MASKED
        a = energy.softmax(dim=1) * mask
        return torch.as_tensor(self.out[s](torch.cat(((a * x).sum(dim=1), x[:, -1]), dim=-1)))


class RankingHead(nn.Module):
    """z = [H; e; u (x) e] -> 128 -> 64 -> 1, or one for each target; the part of H is computed once per user.

    The part of u (x) e could be folded into one matrix per user (128, d) as well; with candidates of many users in one
    flat list, gathering that matrix per candidate costs more memory traffic than the product it saves.
    """

    def __init__(self, d: int, fixed: int, outputs: int) -> None:
        super().__init__()
        self.fixed = nn.Linear(fixed, 128)
        self.candidate = nn.Linear(2 * d, 128, bias=False)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, outputs))

    def forward(self, base: Tensor, u: Tensor, e: Tensor) -> Tensor:
        """Return logits (M, outputs) from users' base (M, 128) and vector u (M, d), and candidates' e (M, d)."""
        return torch.as_tensor(self.rest(base + self.candidate(torch.cat((e, u * e), dim=-1))))


def _activation(config: PyramidMixerConfig) -> nn.Module:
    return nn.GELU() if config.activation == "gelu" else nn.SiLU()


class Fields(nn.Module):
    """The fields of a behaviour and of a candidate: item id, item features, and what the behaviour itself carries."""

    def __init__(self, config: PyramidMixerConfig, facts: DatasetFacts) -> None:
        super().__init__()
        count = len(config.side) + config.rating + config.gap
        width = config.width // max(count, 1) if config.side_group else config.width
        std = _START
        self.items = item_table(facts, config.width, std)
        self.side = nn.ModuleList(ItemFeature(facts, name, width, std) for name in config.side)
        self.rating = field_table(RATING_BINS + 1, width, std) if config.rating else None
        self.gap = field_table(GAP_BINS + 1, width, std) if config.gap else None
        self.group = nn.Linear(count * width, config.width) if config.side_group and count else None
        mapped = bool(config.side) and (config.out_side or config.head == "ranking")
        self.out_map = nn.Linear(len(config.side) * width, config.width, bias=False) if mapped else None
        self.count = 1 + (1 if self.group is not None else count)
        self.ids = IdPart(facts, config.width, config.id_dropout) if config.id_dropout else None

    @property
    def parts(self) -> ItemParts:
        """Return what an item's vectors are made of."""
        return ItemParts(self.items, self.side, self.out_map, self.ids)

    def behaviours(self, inputs: Tensors) -> Tensor:
        """Return the fields of each behaviour side by side, (B, L, F*d)."""
        ids = inputs["items"]
        rows, *fields = self.parts.read(inputs)
        if self.rating is not None:
            fields.append(self.rating(rating_bins(inputs["values"])))
        if self.gap is not None:
            fields.append(self.gap(gap_bins(ids, inputs["times"])))
        if self.group is not None:
            fields = [self.group(torch.cat(fields, dim=-1))]
        return torch.cat([rows, *fields], dim=-1)

    def biases(self, bias: Tensor) -> Tensor:
        """Return the biases of all items, (I+1,)."""
        return bias if self.ids is None else self.ids.biases(bias)


class PyramidMixer(SequentialRecommender):
    """State: `user` (B, d), `base` (B, 128) for the ranking head, and `target_weights` (B, H) for several targets.

    Explains `period_weights` (B, S), and of each candidate the chance of every target (M,), by its name.
    """

    serving_class: ClassVar[ServingClass] = "A"
    slot_bound: ClassVar[bool] = True

    def __init__(self, config: PyramidMixerConfig, facts: DatasetFacts) -> None:
        super().__init__()
        self.config, self.length, self.item_count = config, config.length, facts.item_count
        self.columns = side_columns(rating=config.rating, gap=config.gap)
        self.fields = Fields(config, facts)
        fields, S, d = self.fields.count, config.periods, config.width
        channels = fields * d
        self.norm, self.dropout = nn.LayerNorm(channels), Dropout(config.dropout)
        lengths = [config.length >> (s if config.pyramid == "pool" else S - 1 - s) for s in range(S)]
        self.scales = nn.ModuleList(
            nn.ModuleList(MixerLayer(config, fields, length) for _ in range(config.layers)) for length in lengths
        )
        self.lengths = lengths
        self.halvings = nn.ModuleList(
            Halving(config, channels) for _ in range(S - 1 if config.pyramid == "pool" else 0)
        )
        self.periods = CrossPeriod(config, channels) if config.cross_period else None
        plain = nn.Sequential(nn.Linear(channels, d, bias=False), nn.LayerNorm(d))
        self.last = plain if not config.cross_period else None
        self.targets = tuple(config.targets)
        self.head = RankingHead(d, S * d, max(len(self.targets), 1)) if config.head == "ranking" else None
        shares = [(one.loss, one.score) for one in config.targets.values()]
        self.register_buffer("target_shares", torch.tensor(shares).view(-1, 2), persistent=False)
        if self.head is not None:
            self.serving_class = "C"  # type: ignore[misc]
        self.bias = item_bias(facts, config.popularity_bias)

    target_shares: Tensor  # (H, 2): weights in the loss and in the score

    @property
    def target_weights(self) -> dict[str, float]:
        """Return the weights of the config."""
        return {name: one.score for name, one in self.config.targets.items()}

    def encode(self, inputs: Tensors) -> Encoded:
        """Compute the user's vector from items (B, L) and the behaviour fields that `columns` names."""
        mask = (inputs["items"] > 0).to(self.fields.items.weight.dtype)[..., None]
        x = self.dropout(self.norm(self.fields.behaviours(inputs))) * mask
        scales = self._pyramid(x, mask)
        explanation = {}
        if self.periods is not None:
            u, h, beta = self.periods(scales)
            explanation["period_weights"] = beta
        else:
            assert self.last is not None
            u = self.last(scales[0][0][:, -1])
            h = u[:, None]
        state = {"user": u}
        if self.head is not None:
            state["base"] = self.head.fixed(h.flatten(1))
        if self.targets:
            state[WEIGHTS] = u[:, :1] * 0.0 + self.target_shares[:, 1]
        return Encoded(state, explanation)

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        """Return u . e + bias, or the ranking head's logit."""
        vectors = self.fields.parts.candidates(candidates)
        return self._scored(state, vectors, self.fields.biases(self.bias)[candidates], rows)

    def score_new(self, state: Tensors, vectors: Tensor, rows: Tensor) -> Scored:
        """Return `score` of new items by their rows: the vector and the bias of each."""
        return self._scored(state, vectors[:, :-1], vectors[:, -1], rows)

    def _scored(self, state: Tensors, vectors: Tensor, bias: Tensor, rows: Tensor) -> Scored:
        users = state["user"][rows]
        if self.head is None:
            return Scored((users * vectors).sum(-1) + bias, {})
        logits = self.head(state["base"][rows], users, vectors) + bias[:, None]  # (M, H)
        if not self.targets:
            return Scored(logits.squeeze(-1), {})
        chances = torch.sigmoid(logits)
        explanation = dict(zip(self.targets, chances.unbind(dim=-1), strict=True))
        return Scored((chances * state[WEIGHTS][rows]).sum(dim=-1), explanation)

    def score_all(self, state: Tensors) -> Tensor:
        """Return `score` of every item, (B, I+1)."""
        if self.head is not None:
            return super().score_all(state)
        items = torch.arange(self.item_count + 1, device=state["user"].device)
        return state["user"] @ self.fields.parts.candidates(items).T + self.fields.biases(self.bias)

    @property
    def described_by(self) -> tuple[str, ...]:
        """Return the side features, if the model learns to do without ids."""
        return () if self.fields.ids is None else self.fields.parts.names

    def describe(self, features: Tensors) -> NewRows:
        """See the base class: a candidate's row is its vector and its bias."""
        return self.fields.parts.describe(features)

    def settle(self) -> None:
        """See the base class."""
        if self.fields.ids is not None:
            self.fields.ids.fill(self.fields.items.weight, self.bias)

    def score_shared(self, state: Tensors, items: Tensor) -> Tensor:
        """Return `score` of the same items for every row, (B, N)."""
        if self.head is not None:
            return super().score_shared(state, items)
        return state["user"] @ self.fields.parts.candidates(items).T + self.fields.biases(self.bias)[items]

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the objective's loss (next item), or binary cross-entropy of what was shown (ranking).

        A ranking head that is trained on next items learns each target against its negatives.
        """
        if self.targets:
            return self._targets_loss(batch)
        if self.head is None or batch.labels is not None:
            return objective_loss(self, batch, self.config.objective)
        negatives = 0 if batch.negatives is None else batch.negatives.shape[-1]
        return objective_loss(self, batch, "bce") / (1 + negatives)

    def _targets_loss(self, batch: TrainingBatch) -> Tensor:
        if batch.labels is None:
            raise NegativesError('pyramid_mixer: config.targets need impressions: split.protocol = "impressions"')
        assert self.head is not None
        state, items = self.state_of(batch.inputs), batch.targets
        logits = self.head(state["base"], state["user"], self.fields.parts.candidates(items))
        logits = logits + self.fields.biases(self.bias)[items][:, None]
        return row_mean(targets_loss(logits, batch.labels, self.target_shares[:, 0]), batch.weights)

    def _pyramid(self, x: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return (B, L_s, C) and its mask (B, L_s, 1) for every scale, short period first."""
        scales: list[tuple[Tensor, Tensor]] = []
        for s, layers in enumerate(self.scales):
            if self.config.pyramid == "window":
                y, m = x[:, -self.lengths[s] :], mask[:, -self.lengths[s] :]
            elif s:
                y, m = self.halvings[s - 1](*scales[-1])
            else:
                y, m = x, mask
            for layer in layers:  # type: ignore[attr-defined]
                y = layer(y, m)
            scales.append((y, m))
        return scales
