"""A sound model of a few lines, and models that each break one promise; found by the path of their class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from contract.bundle.tensors import RowInput, SequenceColumn
from models.base import (
    DatasetFacts,
    Encoded,
    Scored,
    SequentialRecommender,
    ServingClass,
    Tensors,
    TrainingBatch,
)
from models.parts.layers import item_bias
from models.parts.objectives import objective_loss


@dataclass(frozen=True)
class Config:
    length: int = 8
    width: int = 16
    fault: str = ""


class Sound(SequentialRecommender):
    """The mean of item vectors, and a dot product plus a bias."""

    serving_class: ClassVar[ServingClass] = "A"
    config_class = Config
    columns: tuple[SequenceColumn, ...] = ("items", "values")

    def __init__(self, config: Config, facts: DatasetFacts) -> None:
        super().__init__()
        self.length, self.item_count, self.width = config.length, facts.item_count, config.width
        self.items = nn.Embedding(facts.item_count + 1, config.width, padding_idx=0)
        self.bias = item_bias(facts, enabled=True)

    def encode(self, inputs: Tensors) -> Encoded:
        real = (inputs["items"] > 0)[..., None]
        return Encoded({"user": (self.items(inputs["items"]) * real).sum(1) / real.sum(1).clamp_min(1)}, {})

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        return Scored((state["user"][rows] * self.items(candidates)).sum(-1) + self.bias[candidates], {})

    def loss(self, batch: TrainingBatch) -> Tensor:
        return objective_loss(self, batch, "full")


class WrongShape(Sound):
    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        return Scored(super().score(state, candidates, rows).scores.double(), {})


class NotFinite(Sound):
    def encode(self, inputs: Tensors) -> Encoded:
        ids = inputs["items"]
        return Encoded({"user": self.items(ids).sum(1) / (ids > 0).sum(1, keepdim=True)}, {})


class OtherScoreAll(Sound):
    def score_all(self, state: Tensors) -> Tensor:
        return state["user"] @ self.items.weight.T


class OtherLists(Sound):
    def score_lists(self, state: Tensors, candidates: Tensor) -> Tensor:
        return super().score_lists(state, candidates) * 2


class MindsNeighbours(Sound):
    def encode(self, inputs: Tensors) -> Encoded:
        user = super().encode(inputs).state["user"]
        return Encoded({"user": user - user.mean(0, keepdim=True)}, {})


class MindsCandidates(Sound):
    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        scores = super().score(state, candidates, rows).scores
        return Scored(scores - scores.mean(), {})


class MindsPadding(Sound):
    def encode(self, inputs: Tensors) -> Encoded:
        user = super().encode(inputs).state["user"]
        return Encoded({"user": user + inputs["values"].sum(1, keepdim=True) * 0.01}, {})


class CountsFromTheOldest(Sound):
    """A weight for each place of the window, of which the first belongs to the oldest place."""

    def __init__(self, config: Config, facts: DatasetFacts) -> None:
        super().__init__(config, facts)
        self.mix = nn.Linear(config.length, 1, bias=False)

    def encode(self, inputs: Tensors) -> Encoded:
        return Encoded({"user": self.mix(self.items(inputs["items"]).transpose(1, 2))[..., 0]}, {})


class Random(Sound):
    def encode(self, inputs: Tensors) -> Encoded:
        user = super().encode(inputs).state["user"]
        return Encoded({"user": user + torch.rand_like(user) * 1e-6}, {})


class Forgets(Sound):
    """A part that no checkpoint keeps."""

    def __init__(self, config: Config, facts: DatasetFacts) -> None:
        super().__init__(config, facts)
        self.extra = torch.rand(config.width)

    def encode(self, inputs: Tensors) -> Encoded:
        return Encoded({"user": super().encode(inputs).state["user"] + self.extra}, {})


class SeesTheFuture(Sound):
    """Counts each item in the whole log, later events included."""

    reads_log: ClassVar[bool] = True

    def __init__(self, config: Config, facts: DatasetFacts) -> None:
        super().__init__(config, facts)
        counts = torch.bincount(torch.from_numpy(facts.log.items), minlength=facts.item_count + 1)
        self.register_buffer("counts", counts.float(), persistent=False)

    counts: Tensor

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        return Scored(super().score(state, candidates, rows).scores + self.counts[candidates], {})


class Unused(Sound):
    def __init__(self, config: Config, facts: DatasetFacts) -> None:
        super().__init__(config, facts)
        self.dense = nn.Linear(config.width, config.width)


class NoLabels(Sound):
    def loss(self, batch: TrainingBatch) -> Tensor:
        return super().loss(batch) if batch.labels is None else self.bias.sum() * 0


class NoWeights(Sound):
    def loss(self, batch: TrainingBatch) -> Tensor:
        return super().loss(batch._replace(weights=None))


class LearnsAnotherItem(Sound):
    def loss(self, batch: TrainingBatch) -> Tensor:
        return super().loss(batch._replace(targets=batch.targets % self.item_count + 1))


class ScalesByItems(Sound):
    """New items change the scores of old ones."""

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        return Scored(super().score(state, candidates, rows).scores * self.item_count, {})


class GrowsAside(Sound):
    def __init__(self, config: Config, facts: DatasetFacts) -> None:
        super().__init__(config, facts)
        self.pairs = nn.Parameter(torch.zeros(2 * facts.item_count, 1))

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        return Scored(super().score(state, candidates, rows).scores + self.pairs[candidates, 0], {})


class BranchesOnValues(Sound):
    """Python asks about a tensor's value, so one branch is lost in the export."""

    row_inputs: tuple[RowInput, ...] = ("user",)

    def encode(self, inputs: Tensors) -> Encoded:
        user = super().encode(inputs).state["user"]
        return Encoded({"user": user if bool((inputs["items"] >= 0).all()) else -user}, {})
