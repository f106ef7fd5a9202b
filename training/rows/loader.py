"""Turns prefix rows into batches by numpy, all rows of a batch at once, with the same padding code as the service.

Symbols: B rows, T length, N rows of a split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contract.bundle.context import CONTEXT, ContextSpec
from contract.bundle.tensors import Arrays, SequenceSpec, windows
from models.base import DatasetFacts, SequentialRecommender, TrainingBatch
from training.data.prepare import Prepared
from training.recipe import Recipe, TrainingRecipe
from training.rows.context import context_codes, context_specs
from training.rows.draws import Draws
from training.rows.share import WHOLE, Share
from training.rows.split import Rows, SplitError, training_log, training_mask

_SOURCES: Final = {"items": "items", "times": "times_ms", "actions": "actions", "values": "values", "plays": "plays"}
"""Columns of prepared data by the names of contract.bundle.tensors."""


Drawing = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], tuple[Tensor | None, Tensor | None]]


class Portion(NamedTuple):
    """One process's part of a batch.

    Attributes:
        batch: its rows; None if the batch has too few for all processes.
        rows: of the whole batch.
        weight: of its mean loss in that of the whole batch; the weights of all processes sum to 1.
    """

    batch: TrainingBatch | None
    rows: int
    weight: float


class Loader:
    """Makes inputs for a sequence spec from the rows of one split.

    Args:
        prepared: the data.
        spec: what the model reads.
        rows: of the split.
        targets: outcomes that are the labels, by name; none = the rows' own labels.
        context: inputs of the context of requests.

    Raises:
        SplitError: the rows have no such outcome.
    """

    def __init__(
        self,
        prepared: Prepared,
        spec: SequenceSpec,
        rows: Rows,
        targets: tuple[str, ...] = (),
        context: Sequence[ContextSpec] = (),
    ) -> None:
        self._prepared, self._context = prepared, context
        self._labels = _outcomes(prepared, rows, targets) if targets else rows.labels
        self._rows, self._spec = rows, spec
        self._columns: dict[str, NDArray[np.int64]] = {name: prepared.columns[_SOURCES[name]] for name in spec.columns}
        self._item_count = len(prepared.items)

    def __len__(self) -> int:
        """Return N."""
        return len(self._rows.items)

    def inputs(self, chosen: NDArray[np.int64]) -> Arrays:
        """Return the inputs that the spec names, for chosen rows (B,), and the codes of their context, if any."""
        starts, stops = self._rows.starts[chosen], self._rows.stops[chosen]
        arrays = windows(self._columns, starts, stops, self._spec.length)
        if "user" in self._spec.row_inputs:
            arrays["user"] = self._rows.users[chosen] + 1
        if "request_time" in self._spec.row_inputs:
            arrays["request_time"] = self._rows.times_ms[chosen]
        if self._context:
            arrays[CONTEXT] = context_codes(self._prepared, self._context, self._rows.take(chosen))
        return arrays

    def targets(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the next or shown item of chosen rows (B,)."""
        return self._rows.items[chosen]

    def labels(self) -> NDArray[np.float32]:
        """Return the label of every shown item, (N,)."""
        assert self._rows.labels is not None
        return self._rows.labels

    def users(self) -> NDArray[np.int64]:
        """Return the user of every row, (N,), from 0."""
        return self._rows.users

    def row_weights(self) -> NDArray[np.float64]:
        """Return probabilities (N,) that give a user with n rows the weight of sqrt(n) rows."""
        weights = 1 / np.sqrt(np.bincount(self._rows.users)[self._rows.users])
        return np.asarray(weights / weights.sum(), dtype=np.float64)

    def order(self, rng: np.random.Generator, count: int, balanced: bool) -> NDArray[np.int64]:
        """Return `count` rows to train on: balanced over users with replacement, or permutations of all."""
        if balanced:
            return rng.choice(len(self), size=count, p=self.row_weights())
        rounds = -(-count // max(len(self), 1))
        return np.concatenate([rng.permutation(len(self)) for _ in range(rounds)])[:count]

    def training_batches(
        self, rng: np.random.Generator, order: NDArray[np.int64], recipe: TrainingRecipe
    ) -> Iterator[TrainingBatch]:
        """Yield batches of the rows in `order`; the last one may be smaller, or larger by a row.

        A single row has no variance for batch normalisation, so it joins the batch before it.
        """
        for portion in self.portions(rng, order, recipe):
            assert portion.batch is not None
            yield portion.batch

    def portions(
        self, rng: np.random.Generator, order: NDArray[np.int64], recipe: TrainingRecipe, share: Share = WHOLE
    ) -> Iterator[Portion]:
        """Yield one process's portions of the batches; every process must bring an equal `rng` and `order`.

        Negatives that all rows of a batch share are the same ones in every process, targets of other rows included.
        """
        stops = [*range(recipe.batch, len(order) - 1, recipe.batch), len(order)]
        drawn = share.own(rng) if recipe.negatives_from == "row" else rng
        draws = partial(Draws(recipe, self._chances(recipe)), drawn)
        for start, stop in zip([0, *stops], stops, strict=False):
            whole = order[start:stop]
            part = whole[share.of(len(whole))]
            batch = self._training_batch(part, self.targets(whole), recipe, draws)
            yield Portion(batch if len(part) else None, len(whole), self._weight(part) / self._weight(whole))

    def _weight(self, chosen: NDArray[np.int64]) -> float:
        return float(len(chosen) if self._rows.weights is None else self._rows.weights[chosen].sum(dtype=np.float64))

    def _training_batch(
        self, chosen: NDArray[np.int64], all_targets: NDArray[np.int64], recipe: TrainingRecipe, draws: Drawing
    ) -> TrainingBatch:
        """Return the batch of chosen rows; `all_targets` are those of the rows of all processes."""
        arrays, targets = self.inputs(chosen), self.targets(chosen)
        negatives, log_counts = draws(arrays["items"], targets, all_targets)
        labels = None if self._labels is None else torch.from_numpy(self._labels[chosen])
        inputs = as_tensors(arrays)
        return TrainingBatch(
            inputs,
            torch.from_numpy(targets),
            negatives,
            labels,
            seen=inputs["items"] if recipe.seen == "drop" else None,
            log_counts=log_counts,
            calibration=recipe.calibration,
            weights=None if self._rows.weights is None else torch.from_numpy(self._rows.weights[chosen]),
        )

    def _chances(self, recipe: TrainingRecipe) -> NDArray[np.float64]:
        """Return each item's chance (I+1,) of being the target of a row that is trained on."""
        weights = self.row_weights() if recipe.balanced else None
        counts = np.bincount(self._rows.items, weights, minlength=self._item_count + 1)
        return np.asarray(counts / max(counts.sum(), 1e-300), dtype=np.float64)


def _outcomes(prepared: Prepared, rows: Rows, targets: tuple[str, ...]) -> NDArray[np.float32]:
    """Return the outcomes (N, H) of the targets."""
    absent = [name for name in targets if name not in prepared.outcomes]
    if absent or rows.outcomes is None:
        raise SplitError(
            f"{prepared.directory.name}: config.targets: no outcome {(absent or targets)[0]!r} of impressions; "
            f"there are {', '.join(prepared.outcomes) or 'none'}; targets need protocol 'impressions'"
        )
    return rows.outcomes[:, [prepared.outcomes.index(name) for name in targets]]


def as_tensors(arrays: Arrays) -> dict[str, Tensor]:
    """Return the arrays as tensors that share their memory."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def sequence_spec(model: SequentialRecommender) -> SequenceSpec:
    """Return the input spec of a model's `encode`."""
    return SequenceSpec(length=model.length, columns=model.columns, row_inputs=model.row_inputs)


def dataset_facts(prepared: Prepared, recipe: Recipe, *, everything: bool = False) -> DatasetFacts:
    """Return the facts that determine a model, from training data only; popularity excludes context.

    With `everything`, all data are training data.
    """
    split = recipe.split
    mask = np.ones(len(prepared.columns["items"]), dtype=np.bool_)
    if not everything:
        mask = training_mask(prepared, split.protocol, split.held, split.hours)
    log, learnt = training_log(prepared, mask), training_log(prepared, mask, context=False)
    counts = np.bincount(learnt.items, minlength=len(prepared.items) + 1).astype(np.float32)
    return DatasetFacts(
        len(prepared.items), len(prepared.users), counts, dict(prepared.features), dict(prepared.cardinalities), log,
        context_specs(prepared, recipe.context), recipe.context.hidden,
    )  # fmt: skip
