"""FMLP-Rec: an all-MLP model whose token mixing is a learnt filter in the frequency domain.

Zhou et al., "Filter-enhanced MLP is All You Need for Sequential Recommendation", WWW 2022,
https://arxiv.org/abs/2202.13556, in the form of the authors' code (https://github.com/Woeee/FMLP-Rec).

| Part of the paper | Here |
| --- | --- |
| embedding layer with positions, section 4.1 | `encode` |
| learnable filter W (x) F(X) and its inverse, section 4.2 | `Filter` |
| skip connection and norm, feed-forward net, section 4.2 | `Block` |
| prediction by the last position, section 4.3 | `score` |

The transforms are products with constant matrices, which any runtime has: at T = 50 these beat both the fast transform
and the product with the filters' circulant matrices, in training and in serving. At only the last position, a filter
is a weighted sum over the sequence by the real kernel irfft(W), turned around.

Departures:
- Full softmax over all items by default; the paper's binary cross-entropy with one negative is `objective="bce"`.
- Padded slots are zero before every filter. The authors compute a mask and do not use it, so that padding carries
  positions into the spectrum.
- The last block computes only the newest position, because no other is read.
- Rows are prefixes, as for all models; positions are indexed by recency. Filters are tied to the length.

Symbols: B rows, T length, d width, F = T // 2 + 1 frequencies, M flat candidates, I items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from models.base import DatasetFacts, Encoded, Tensors, TrainingBatch
from models.parts.dot_product import DotProductRecommender
from models.parts.features import ItemVectors, SideFields
from models.parts.layers import Dropout, item_bias, start_small
from models.parts.objectives import Objective, objective_loss


@dataclass(frozen=True)
class FMLPConfig(SideFields):
    """Sizes, next to the side information of `SideFields`.

    Attributes:
        length: T.
        width: d.
        blocks: of a filter and a feed-forward net each.
        inner: width of the feed-forward nets.
        activation: gelu as in the paper, or silu, whose backward is far cheaper on a CPU.
        objective: full softmax, or a sampled loss.
        popularity_bias: item bias that starts at log popularity.
        dropout: everywhere.
    """

    length: int = 50
    width: int = 64
    blocks: int = 2
    inner: int = 256
    activation: Literal["gelu", "silu"] = "gelu"
    objective: Objective = "full"
    popularity_bias: bool = False
    dropout: float = 0.5


class Filter(nn.Module):
    """Multiply the spectrum along T by learnt complex numbers (F, d): real and imaginary parts in the last axis."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.spectrum = nn.Parameter(0.02 * torch.randn(length // 2 + 1, width, 2))
        cosine, sine, back_cosine, back_sine = transforms(length)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)
        self.register_buffer("back_cosine", back_cosine, persistent=False)
        self.register_buffer("back_sine", back_sine, persistent=False)

    cosine: Tensor
    sine: Tensor
    back_cosine: Tensor
    back_sine: Tensor

    def forward(self, x: Tensor, *, last: bool) -> Tensor:
        """Map (B, T, d) to itself, or to its last position (B, 1, d)."""
        w_real, w_imaginary = self.spectrum.unbind(-1)
        if last:  # y_T-1 = sum over s of k[T-1-s] x_s
            kernel = self.back_cosine @ w_real + self.back_sine @ w_imaginary  # irfft(W), (T, d)
            return (x * kernel.flip(0)).sum(dim=1, keepdim=True)
        real, imaginary = self.cosine @ x, self.sine @ x  # (B, F, d)
        y = self.back_cosine @ (real * w_real - imaginary * w_imaginary)
        return y + self.back_sine @ (real * w_imaginary + imaginary * w_real)


def transforms(length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rfft as matrices of real and imaginary part, each (F, T), and irfft as those that add up, each (T, F).

    The imaginary part at frequency 0, and at T/2 for an even T, has no effect. Made in float64 from whole turns.
    """
    frequencies = torch.arange(length // 2 + 1)
    turns = torch.remainder(frequencies[:, None] * torch.arange(length), length)
    angles = turns.double() * (2 * math.pi / length)
    single = (frequencies == 0) | (2 * frequencies == length)
    cosine, sine = angles.cos(), -torch.where(single[:, None], 0.0, angles.sin())
    weight = torch.where(single, 1.0, 2.0).double() / length  # the other half of a real signal's spectrum mirrors this
    return cosine.float(), sine.float(), (cosine.T * weight).float(), (sine.T * weight).float()


class Block(nn.Module):
    """A filter and a feed-forward net, each with dropout, a residual and a norm after it."""

    def __init__(self, config: FMLPConfig) -> None:
        super().__init__()
        d = config.width
        self.filter = Filter(config.length, d)
        activation = nn.GELU() if config.activation == "gelu" else nn.SiLU()
        self.inner = nn.Sequential(nn.Linear(d, config.inner), activation, nn.Linear(config.inner, d))
        self.norm_filter, self.norm_inner = nn.LayerNorm(d), nn.LayerNorm(d)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor, *, last: bool) -> Tensor:
        """Map (B, T, d) to itself, or to its last position (B, 1, d); `mask` (B, T, 1) keeps padding at zero."""
        asked, real = (x[:, -1:], mask[:, -1:]) if last else (x, mask)
        y = self.norm_filter(asked + self.dropout(self.filter(x, last=last)))
        return torch.as_tensor(self.norm_inner(y + self.dropout(self.inner(y))) * real)


class FMLP(DotProductRecommender):
    """State: `user` (B, d)."""

    slot_bound: ClassVar[bool] = True

    def __init__(self, config: FMLPConfig, facts: DatasetFacts) -> None:
        super().__init__()
        self.config, self.length, self.item_count = config, config.length, facts.item_count
        self.columns = config.columns
        self.items = ItemVectors(facts, config.width, 0.02, config)
        self.bias = item_bias(facts, config.popularity_bias)
        self.positions = nn.Parameter(0.02 * torch.randn(config.length, config.width))
        self.norm, self.dropout = nn.LayerNorm(config.width), Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        start_small(self.blocks)

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the last block's output at the newest behaviour; zeros for an empty history."""
        mask = (inputs["items"] > 0).to(self.items.weight.dtype)[..., None]
        x = self.dropout(self.norm(self.items.behaviours(inputs) + self.positions)) * mask
        for place, block in enumerate(self.blocks, start=1):
            x = block(x, mask, last=place == len(self.blocks))
        return Encoded({"user": x[:, -1]}, {})

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return full-softmax cross-entropy at the last position, or the loss that the config names."""
        return objective_loss(self, batch, self.config.objective)
