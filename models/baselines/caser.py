"""Caser: convolutions over the history as an image, along the time and across it.

Tang and Wang, "Personalized Top-N Sequential Recommendation via Convolutional Sequence Embedding", WSDM 2018,
https://arxiv.org/abs/1809.07426, in the form of the deeprec models of
https://github.com/recommenders-team/recommenders; nothing is copied.

    v = ReLU(sum_t e_t V_t)                                  vertical: one filter covers the whole image
    h_s = max_t ReLU(conv_s(e_(t-s+1) .. e_t)), s = 1, 2, 3  horizontal: s behaviours in a row
    score = MLP([v; h_1; h_2; h_3; e_candidate])

Items and categories, if there are any, are two images with separate filters.

Departures, next to those of `deeprec.py`:
- no vector of the user, as in the frame (the paper has one);
- a horizontal window ends at a real behaviour and may begin before the first one, where it reads zeros, so a short
  history has windows of every size and scores do not depend on T; theirs pool over padding;
- V_t is indexed by recency, since the newest behaviour is in the last slot.

Symbols: B rows, T length, n width of an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import DatasetFacts, Encoded, Tensors
from models.baselines.deeprec import FrameConfig, FrameModel, ScoringNetwork


@dataclass(frozen=True)
class CaserConfig(FrameConfig):
    """Sizes.

    Attributes:
        vertical: filters that cover the whole history, per image.
        horizontal: filters of each window, per image.
        windows: horizontal windows of 1 to `windows` behaviours.
    """

    vertical: int = 128
    horizontal: int = 128
    windows: int = 3


class Image(nn.Module):
    """The filters of one image (B, T, n): (B, vertical + windows * horizontal)."""

    def __init__(self, config: CaserConfig, width: int) -> None:
        super().__init__()
        std = (config.length * width) ** -0.5
        self.vertical = nn.Parameter(std * torch.randn(config.length, width, config.vertical))
        self.vertical_bias = nn.Parameter(torch.zeros(config.vertical))
        self.horizontal = nn.ModuleList(
            nn.Conv1d(width, config.horizontal, size) for size in range(1, config.windows + 1)
        )

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Filter an image whose padded slots are zeros; `mask` (B, T) tells which windows end at a behaviour."""
        outputs = [F.relu(image.flatten(1) @ self.vertical.flatten(0, 1) + self.vertical_bias)]
        columns = image.transpose(1, 2)
        for size, convolution in enumerate(self.horizontal):
            windows = F.relu(convolution(F.pad(columns, (size, 0))))  # as many as behaviours: `size` zeros before
            outputs.append((windows * mask[:, None]).amax(dim=-1))  # none is below zero
        return torch.cat(outputs, dim=-1)


class Caser(FrameModel):
    """State as of the frame: `user` (B, h)."""

    def __init__(self, config: CaserConfig, facts: DatasetFacts) -> None:
        super().__init__(config, facts)
        self.parts = [part for part in (config.width, self.vectors.width - config.width) if part]
        self.images = nn.ModuleList(Image(config, part) for part in self.parts)
        user = len(self.parts) * (config.vertical + config.windows * config.horizontal)
        self.scoring = ScoringNetwork(user, self.vectors.width, dropout=config.dropout)

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the user's share of the first layer, from the filters of all images."""
        behaviours, mask = self.behaviours(inputs)
        parts = torch.split(behaviours, self.parts, dim=-1)
        return self.encoded(torch.cat([f(part, mask) for f, part in zip(self.images, parts, strict=True)], dim=-1))
