"""MLP-Mixer over a behaviour sequence: one net mixes positions, another mixes channels, in turns.

Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", NeurIPS 2021, https://arxiv.org/abs/2105.01601, as
a sequential recommender: behaviours in place of image patches, and the newest one's vector is the user's. No official
recommender code is known; this is MLP4Rec with one field and separate weights per layer.

| Part of the paper | Here |
| --- | --- |
| token mixing, equation 1, first line | `MixerLayer`, `positions_in`, `positions_out` |
| channel mixing, equation 1, second line | `MixerLayer`, `channels` |
| classification head over the mean of all patches | replaced by the last position's vector |

Departures from the vision model: dropout after the input, inside both nets and on each residual, as the other
sequential models have it (no stochastic depth); padded slots are zero before every mix, so their content never
counts; the last layer computes only the newest position, because no other is read. There are no position vectors in
the paper either: the weights along the sequence know the place. They are indexed by recency and tied to the length.

Symbols: B rows, T length, d width, M flat candidates, I items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from models.base import DatasetFacts, Encoded, Tensors, TrainingBatch
from models.parts.dot_product import DotProductRecommender
from models.parts.features import ItemVectors, SideFields
from models.parts.layers import Dropout, item_bias
from models.parts.objectives import Objective, objective_loss


@dataclass(frozen=True)
class MLPMixerConfig(SideFields):
    """Sizes, next to the side information of `SideFields`.

    Attributes:
        length: T.
        width: d.
        layers: mixer layers.
        expand: hidden over input size, of both nets.
        activation: gelu as in the paper, or silu, whose backward is far cheaper on a CPU.
        objective: full softmax, or a sampled loss.
        popularity_bias: item bias that starts at log popularity.
        dropout: everywhere.
    """

    length: int = 50
    width: int = 64
    layers: int = 2
    expand: int = 4
    activation: Literal["gelu", "silu"] = "gelu"
    objective: Objective = "full"
    popularity_bias: bool = False
    dropout: float = 0.5


class MixerLayer(nn.Module):
    """Mix positions, then channels, each on a normed input with a residual."""

    def __init__(self, config: MLPMixerConfig) -> None:
        super().__init__()
        T, d, wider = config.length, config.width, config.expand
        self.norm_positions, self.norm_channels = nn.LayerNorm(d), nn.LayerNorm(d)
        self.positions_in, self.positions_out = nn.Linear(T, wider * T), nn.Linear(wider * T, T)
        self.channels_in, self.channels_out = nn.Linear(d, wider * d), nn.Linear(wider * d, d)
        self.activation = nn.GELU() if config.activation == "gelu" else nn.SiLU()
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor, *, last: bool) -> Tensor:
        """Map (B, T, d) to itself, or to its last position (B, 1, d); `mask` (B, T, 1)."""
        asked = slice(-1, None) if last else slice(None)
        u = (self.norm_positions(x) * mask).transpose(1, 2)  # (B, d, T)
        hidden = self.dropout(self.activation(self.positions_in(u)))
        mixed = nn.functional.linear(hidden, self.positions_out.weight[asked], self.positions_out.bias[asked])
        y = (x[:, asked] + self.dropout(mixed.transpose(1, 2))) * mask[:, asked]
        hidden = self.dropout(self.activation(self.channels_in(self.norm_channels(y))))
        return torch.as_tensor((y + self.dropout(self.channels_out(hidden))) * mask[:, asked])


class MLPMixer(DotProductRecommender):
    """State: `user` (B, d)."""

    slot_bound: ClassVar[bool] = True

    def __init__(self, config: MLPMixerConfig, facts: DatasetFacts) -> None:
        super().__init__()
        self.config, self.length, self.item_count = config, config.length, facts.item_count
        self.columns = config.columns
        self.items = ItemVectors(facts, config.width, config.width**-0.5, config)
        self.bias, self.dropout = item_bias(facts, config.popularity_bias), Dropout(config.dropout)
        self.layers = nn.ModuleList(MixerLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the last layer's normed output at the newest behaviour; the norm's bias for an empty history."""
        mask = (inputs["items"] > 0).to(self.items.weight.dtype)[..., None]
        x = self.dropout(self.items.behaviours(inputs)) * mask
        for place, layer in enumerate(self.layers, start=1):
            x = layer(x, mask, last=place == len(self.layers))
        return Encoded({"user": self.norm(x[:, -1])}, {})

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return full-softmax cross-entropy at the last position, or the loss that the config names."""
        return objective_loss(self, batch, self.config.objective)
