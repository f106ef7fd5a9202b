"""Models of a few lines, each with one trait that an export must keep or refuse."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from contract.bundle.tensors import SequenceColumn, SequenceSpec
from exporter.rows import RowMaker, Rows
from models.base import Encoded, Scored, SequentialRecommender, ServingClass, Tensors

ITEMS, WIDTH, LENGTH = 30, 4, 5


class Plain(SequentialRecommender):
    """The mean of item vectors, and a dot product."""

    serving_class: ClassVar[ServingClass] = "A"
    columns: tuple[SequenceColumn, ...] = ("items",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.length, self.item_count = LENGTH, ITEMS
        self.items = nn.Embedding(ITEMS + 1, WIDTH, padding_idx=0)

    def vector(self, inputs: Tensors) -> Tensor:
        count = (inputs["items"] > 0).sum(dim=1, keepdim=True).clamp_min(1)
        return self.items(inputs["items"]).sum(dim=1) / count

    def encode(self, inputs: Tensors) -> Encoded:
        return Encoded({"user": self.vector(inputs)}, {})

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        return Scored((state["user"][rows] * self.items(candidates)).sum(-1), {})


class TinyEpsilon(Plain):
    """Divides by a norm that is zero on an empty history, but for an epsilon."""

    def encode(self, inputs: Tensors) -> Encoded:
        vector = self.vector(inputs)
        square = (vector * vector).sum(dim=-1, keepdim=True)
        return Encoded({"user": square * vector * torch.rsqrt(square + 1e-9)}, {})


class WholeTable(Plain):
    """Computes a table over all items in `score`, of which a few rows are used."""

    def __init__(self) -> None:
        super().__init__()
        self.side = nn.Linear(WIDTH, WIDTH)

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        table = self.items.weight + self.side(self.items.weight)
        return Scored((state["user"][rows] * table[candidates]).sum(-1), {})


class Recurrent(Plain):
    """A GRU over the history."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)

    def encode(self, inputs: Tensors) -> Encoded:
        return Encoded({"user": self.gru(self.items(inputs["items"]))[0][:, -1]}, {})


class KeepsItems(Plain):
    """Keeps what it read, under the name of the input, for attention per candidate."""

    serving_class: ClassVar[ServingClass] = "D"

    def encode(self, inputs: Tensors) -> Encoded:
        return Encoded({"items": inputs["items"]}, {"count": (inputs["items"] > 0).sum(dim=1)})

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        read, wanted = self.items(state["items"][rows]), self.items(candidates)
        weights = (read * wanted[:, None]).sum(-1).softmax(dim=-1)
        return Scored((weights[..., None] * read).sum(dim=(1, 2)), {"strongest": weights.argmax(dim=-1)})


class MindsNeighbours(Plain):
    """A score depends on the other rows of the batch."""

    def encode(self, inputs: Tensors) -> Encoded:
        vector = self.vector(inputs)
        return Encoded({"user": vector - vector.mean(dim=0, keepdim=True)}, {})


class MindsPadding(Plain):
    """A score depends on the content of padded slots."""

    columns: tuple[SequenceColumn, ...] = ("items", "values")

    def encode(self, inputs: Tensors) -> Encoded:
        return Encoded({"user": self.vector(inputs) + inputs["values"].sum(dim=1, keepdim=True)}, {})


class Branches(Plain):
    """Asks Python about a tensor's value."""

    def encode(self, inputs: Tensors) -> Encoded:
        vector = self.vector(inputs)
        return Encoded({"user": vector if bool((inputs["items"] > 3).any()) else -vector}, {})


class FixedBatch(Plain):
    """Works for the traced number of rows only."""

    def encode(self, inputs: Tensors) -> Encoded:
        vector = self.vector(inputs)
        return Encoded({"user": vector.view(3, WIDTH) + torch.arange(3.0)[:, None]}, {})


def maker(model: SequentialRecommender, **options: Any) -> RowMaker:
    return RowMaker(SequenceSpec(length=LENGTH, columns=model.columns, row_inputs=model.row_inputs), ITEMS, **options)


def sample(model: SequentialRecommender) -> Rows:
    rows = maker(model).make([0, 2, LENGTH], [3, 2, 2])
    assert rows.candidates.dtype == np.int64
    return rows
