"""The base of every model: `encode` once per user, `score` for each candidate, `loss` in training.

Symbols: B rows, T sequence length, M flat candidates of all rows, I items, d width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contract.bundle.context import CONTEXT, ContextSpec
from contract.bundle.tensors import RowInput, SequenceColumn
from contract.command_line import CommandError
from models.context import ContextVectors

Tensors = dict[str, Tensor]
ServingClass = Literal["A", "B", "C", "D", "E"]

MASKED = -1e9  # not -inf: a row of only padding must stay finite


class NegativesError(CommandError, ValueError):
    """The loss needs negatives, but the recipe draws none."""


class Encoded(NamedTuple):
    """The state of B users, each tensor with leading dimension B, and its explanation for people."""

    state: Tensors
    explanation: Tensors


class Scored(NamedTuple):
    """Scores (M,) of flat candidates, and their explanation for people, each (M,)."""

    scores: Tensor
    explanation: Tensors


class NewRows(NamedTuple):
    """Inputs of `encode` and `score_new` for C items that training never met, made of their features.

    Attributes:
        history: (C, E), one row for each, the input `new_items` of `encode`.
        candidates: (C, S), one row for each, the input of `score_new`.
    """

    history: Tensor
    candidates: Tensor


class TrainingBatch(NamedTuple):
    """One step's rows: inputs by name, the item of each row (B,), and its negatives or label.

    Next-item rows: the item came next, and `negatives` are drawn if the recipe asks for them, (B, n) or (n,) for all
    rows. Ranking rows: the item was shown, and `labels` float32 are 1 or 0 (B,), or shares (B, H) for a model with
    targets. `seen` (B, T), 0 for none, are items that do not compete with the target. `weights` (B,) float32 are the
    weights of the rows; None = all equal. `log_counts`, (B, n or 1) or (n,), is the log of how often each negative is
    expected among the row's draws. `calibration` is that of the objective `gbce`.
    """

    inputs: Tensors
    targets: Tensor
    negatives: Tensor | None = None
    labels: Tensor | None = None
    seen: Tensor | None = None
    weights: Tensor | None = None
    log_counts: Tensor | None = None
    calibration: float = 0.75


class InteractionLog(NamedTuple):
    """Training interactions in time order, each int64 (R,): user and item index, milliseconds since the epoch."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    times_ms: NDArray[np.int64]

    @classmethod
    def empty(cls) -> InteractionLog:
        """Return an empty log."""
        return cls(*(np.zeros(0, dtype=np.int64) for _ in range(3)))


@dataclass(frozen=True)
class DatasetFacts:
    """The facts that determine a model's shape and initial values; index 0 is padding or unknown everywhere.

    Attributes:
        item_count: I, items without padding.
        user_count: users without the unknown one.
        item_popularity: float32 (I+1,), training interactions by item index.
        item_features: by field, int64 (I+1, width); width > 1 for multi-valued fields.
        cardinalities: by field, one more than the largest value.
        log: training interactions, for models that walk the graph of users and items; a checkpoint contains it for
            models with `reads_log`.
        context: inputs of the context of a request.
        context_hidden: share of the training rows from which each of them is hidden.
    """

    item_count: int
    user_count: int
    item_popularity: NDArray[np.float32]
    item_features: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    cardinalities: dict[str, int] = field(default_factory=dict)
    log: InteractionLog = field(default_factory=InteractionLog.empty)
    context: tuple[ContextSpec, ...] = ()
    context_hidden: float = 0.0


class SequentialRecommender(nn.Module):
    """A model with two functions. Subclasses set the class attributes and write `encode`, `score` and `loss`.

    Attributes:
        serving_class: the cost of a candidate (A dot product, B several, C small network, D attention, E everything).
        columns: behaviour columns that `encode` reads; `items` (B, T) int64 always, 0 is padding, newest last.
        row_inputs: per-row inputs that `encode` reads.
        reads_log: whether the training log is needed to build the model, after training too.
        slot_bound: whether weights are tied to places of the sequence by more than their order from the newest, as
            those of a mixing matrix are: then another `length` needs other weights.
        length: T.
        targets: outcomes of an impression that the model learns, by name; none if it learns one label.
        config_class: the dataclass of its config, for a model outside the catalogue (models/lookup.py).
        context_state: the tensor (B, ..., d) of the state that the vector of the context is added to; None: the model
            cannot read a context.
        context: the vectors of the context; None if the model reads none.
    """

    serving_class: ClassVar[ServingClass]
    config_class: ClassVar[type[Any] | None] = None
    columns: tuple[SequenceColumn, ...] = ("items",)
    row_inputs: tuple[RowInput, ...] = ()
    reads_log: ClassVar[bool] = False
    slot_bound: ClassVar[bool] = False
    targets: tuple[str, ...] = ()
    context_state: ClassVar[str | None] = "user"
    length: int
    item_count: int

    def __init__(self) -> None:
        super().__init__()
        self.context: ContextVectors | None = None

    @property
    def target_weights(self) -> dict[str, float]:
        """Return the weight of each target in the score: the sum of the weight times the explanation of that name."""
        return {}

    def encode(self, inputs: Tensors) -> Encoded:
        """Compute the state, which does not depend on a candidate, from the inputs in `columns` and `row_inputs`."""
        raise TypeError(f"{type(self).__name__} has no encode")

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        """Score flat candidates (M,), each under the state of its row (M,)."""
        raise TypeError(f"{type(self).__name__} has no score")

    @property
    def context_specs(self) -> tuple[ContextSpec, ...]:
        """Return the inputs of the context; none if the model reads none."""
        return () if self.context is None else self.context.specs

    def in_context(self, state: Tensors, inputs: Tensors) -> Tensors:
        """Add the context of each row, codes (B, F) in `inputs`, to the state, if the model reads any."""
        if self.context is None or self.context_state is None:
            return state
        users, vectors = state[self.context_state], self.context(inputs[CONTEXT])
        shape = (-1, *(1,) * (users.dim() - 2), vectors.shape[-1])
        return {**state, self.context_state: users + vectors.view(shape)}

    def state_of(self, inputs: Tensors) -> Tensors:
        """Return the state of `encode`, in the context of each row: what training and evaluation score with."""
        return self.in_context(self.encode(inputs).state, inputs)

    @property
    def described_by(self) -> tuple[str, ...]:
        """Return the item features that `describe` needs; none if the model has no vector for an item without an id."""
        return ()

    def describe(self, features: Tensors) -> NewRows:
        """Return the rows of new items from the codes (C, values) of their features, 0 for no value."""
        raise TypeError(f"{type(self).__name__} cannot describe a new item")

    def score_new(self, state: Tensors, vectors: Tensor, rows: Tensor) -> Scored:
        """Score new items by their rows `NewRows.candidates` (M, S), each under the state of its row (M,)."""
        raise TypeError(f"{type(self).__name__} cannot score a new item")

    def score_all(self, state: Tensors) -> Tensor:
        """Score every item for every row: (B, I+1); column 0 is padding and means nothing."""
        some = next(iter(state.values()))
        items = torch.arange(self.item_count + 1, device=some.device)
        rows = torch.arange(len(some), device=some.device)
        flat = self.score(state, items.repeat(len(some)), rows.repeat_interleave(len(items)))
        return flat.scores.view(len(some), -1)

    def score_lists(self, state: Tensors, candidates: Tensor) -> Tensor:
        """Score one list of candidates (B, N) per row: (B, N)."""
        rows = torch.arange(len(candidates), device=candidates.device).repeat_interleave(candidates.shape[1])
        return self.score(state, candidates.flatten(), rows).scores.view_as(candidates)

    def score_shared(self, state: Tensors, items: Tensor) -> Tensor:
        """Score the same items (N,) for every row: (B, N); a model with a cheaper way overrides it."""
        rows = len(next(iter(state.values())))
        return self.score_lists(state, items.expand(rows, -1))

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the mean training loss of a batch, a scalar."""
        raise TypeError(f"{type(self).__name__} has no loss")

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; on the way to evaluation, `settle`."""
        super().train(mode)
        if not mode:
            self.settle()
        return self

    def settle(self) -> None:
        """Write what evaluation and export read out of what training has learnt."""

    def begin_epoch(self) -> None:
        """Reset all counters of training steps, so that a resumed run continues as if it had never stopped."""


def log_popularity(counts: NDArray[np.float32]) -> Tensor:
    """Return log(p_i / mean p) by item index (I+1,), smoothed by one count; 0 for padding."""
    smoothed = torch.from_numpy(counts.astype(np.float32)) + 1.0
    bias = torch.log(smoothed / smoothed[1:].mean())
    bias[0] = 0.0
    return bias
