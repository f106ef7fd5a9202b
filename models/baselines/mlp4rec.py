"""MLP4Rec: perceptrons in turn across the sequence, the channels and the fields of behaviours.

Li et al., "MLP4Rec: A Pure MLP Architecture for Sequential Recommendations", IJCAI 2022,
https://arxiv.org/abs/2204.11510, in the form of the authors' code (https://github.com/Li-Muyang/MLP4Rec): the paper's
full text was not available.

| Part | Here |
| --- | --- |
| one mixer: norm, perceptron along an axis, residual | `Mixer` |
| sequence and channel mixers field by field, then a feature mixer across fields | `MLP4Rec._mixed` |
| norm of the item's field at the newest behaviour, item table | `encode`, `score` |

As in the code, one mixer of each axis serves all fields and all layers (`share`).

Departures: padding is on the left and never enters a mixer (the code normalises it to the norm's bias and mixes that
in); weights along the sequence count from the newest behaviour. Without side fields there is no feature mixer, which
would mix one number with itself. The behaviour's rating and the time since the one before are fields too. The last
layer computes only the newest slot, because no other is read. An empty history is the last norm's bias.

Weights along the sequence are tied to its length: a model trained with one length cannot serve another.

Symbols: B rows, T length, F fields with the item first, d width, M flat candidates, I items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import DatasetFacts, Encoded, Tensors, TrainingBatch
from models.parts.dot_product import DotProductRecommender
from models.parts.features import (
    GAP_BINS,
    RATING_BINS,
    ItemVectors,
    gap_bins,
    rating_bins,
    side_columns,
)
from models.parts.item_feature import ItemFeature, field_table
from models.parts.layers import Dropout, item_bias
from models.parts.objectives import Objective, objective_loss

_EXPAND: Final = 4  # hidden over input size of a mixer
_FIELDS, _SEQUENCE, _CHANNELS = 0, -2, -1  # axes of (F, B, T, d)


@dataclass(frozen=True)
class MLP4RecConfig:
    """Sizes and switches.

    Attributes:
        length: T.
        width: d.
        layers: times that the three mixers are applied.
        share: the same mixers for all fields and layers; False: separate ones; sequence and channel mixers also per
        field. side: item features read as fields of a behaviour.
        rating, gap: the behaviour's value, and the log of the time since the one before, as fields.
        activation: gelu, or silu, whose backward is far cheaper on a CPU.
        objective: of training.
        popularity_bias: item bias that starts at log popularity.
        dropout: inside and after every mixer.
    """

    length: int = 50
    width: int = 64
    layers: int = 4
    share: bool = True
    side: tuple[str, ...] = ()
    rating: bool = False
    gap: bool = False
    activation: Literal["gelu", "silu"] = "gelu"
    objective: Objective = "full"
    popularity_bias: bool = False
    dropout: float = 0.5


class Mixer(nn.Module):
    """x + perceptron(norm(x)) along one axis; the norm is always along the channels."""

    def __init__(self, config: MLP4RecConfig, size: int, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.norm, self.dropout = nn.LayerNorm(config.width), Dropout(config.dropout)
        self.up, self.down = nn.Linear(size, _EXPAND * size), nn.Linear(_EXPAND * size, size)
        self.activation = nn.GELU() if config.activation == "gelu" else nn.SiLU()
        if axis == _CHANNELS:  # the code starts its other mixers, convolutions, as torch does
            for layer in (self.up, self.down):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, newest: bool = False) -> Tensor:
        """Map (..., T, d) to itself; along the sequence `mask` (B, T, 1) keeps padding out, `newest` gives (..., 1, d).

        Padded slots of the output mean nothing.
        """
        u = self.norm(x) if mask is None else self.norm(x) * mask
        if self.axis == _FIELDS:  # the first axis: a product from the left needs no transposed copies
            hidden = self.dropout(self.activation(_from_left(self.up, u.flatten(1))))
            return torch.as_tensor(x + self.dropout(_from_left(self.down, hidden).view_as(x)))
        hidden = self.dropout(self.activation(self.up(u.transpose(self.axis, -1))))
        if newest:
            x = x[..., -1:, :]
            y = F.linear(hidden, self.down.weight[-1:], self.down.bias[-1:])
        else:
            y = self.down(hidden)
        return torch.as_tensor(x + self.dropout(y.transpose(self.axis, -1)))


class MLP4Rec(DotProductRecommender):
    """State: `user` (B, d)."""

    slot_bound: ClassVar[bool] = True

    def __init__(self, config: MLP4RecConfig, facts: DatasetFacts) -> None:
        super().__init__()
        T, d = config.length, config.width
        self.config, self.length, self.item_count = config, T, facts.item_count
        self.columns = side_columns(rating=config.rating, gap=config.gap)
        self.items, self.bias = ItemVectors(facts, d, 0.02), item_bias(facts, config.popularity_bias)
        self.side = nn.ModuleList(ItemFeature(facts, name, d, 0.02) for name in config.side)
        self.rating = field_table(RATING_BINS + 1, d, 0.02) if config.rating else None
        self.gap = field_table(GAP_BINS + 1, d, 0.02) if config.gap else None
        fields = 1 + len(config.side) + config.rating + config.gap
        layers, groups = (1, 1) if config.share else (config.layers, fields)
        self.sequence, self.channels = (
            nn.ModuleList(
                nn.ModuleList(Mixer(config, size, axis) for _ in range(groups)) for _ in range(layers)
            )
            for size, axis in ((T, _SEQUENCE), (d, _CHANNELS))
        )  # fmt: skip
        self.features = nn.ModuleList(Mixer(config, fields, _FIELDS) for _ in range(layers if fields > 1 else 0))
        self.norm = nn.LayerNorm(d)

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the item's field at the newest behaviour after all layers."""
        mask = (inputs["items"] > 0).to(self.items.weight.dtype)[..., None]
        x = self._fields(inputs) * mask
        for layer in range(self.config.layers):
            x = self._mixed(x, mask, layer, newest=layer == self.config.layers - 1)
        return Encoded({"user": self.norm(x[0, :, -1] * mask[:, -1])}, {})

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the objective's loss at the last position."""
        return objective_loss(self, batch, self.config.objective)

    def _fields(self, inputs: Tensors) -> Tensor:
        """Return the fields of each behaviour, (F, B, T, d)."""
        ids = inputs["items"]
        fields = [self.items(ids), *(feature(ids) for feature in self.side)]
        if self.rating is not None:
            fields.append(self.rating(rating_bins(inputs["values"])))
        if self.gap is not None:
            fields.append(self.gap(gap_bins(ids, inputs["times"])))
        return torch.stack(fields)

    def _mixed(self, x: Tensor, mask: Tensor, layer: int, *, newest: bool) -> Tensor:
        """Map (F, B, T, d) through one layer; to (F, B, 1, d) if only the newest slot is asked for."""
        layer = 0 if self.config.share else layer
        sequence, channels = self.sequence[layer], self.channels[layer]
        assert isinstance(sequence, nn.ModuleList)
        assert isinstance(channels, nn.ModuleList)
        if self.config.share:  # all fields at once
            x = channels[0](sequence[0](x, mask, newest=newest))
        else:
            own = zip(x, sequence, channels, strict=True)
            x = torch.stack([channel(mix(field, mask, newest=newest)) for field, mix, channel in own])
        return torch.as_tensor(self.features[layer](x)) if len(self.features) else x


def _from_left(layer: nn.Linear, x: Tensor) -> Tensor:
    return torch.addmm(layer.bias[:, None], layer.weight, x)
