"""The scores of a model that is a day old, as the service gives them: it does not know what was born since.

An unknown user has index 0. A model that learnt to do without ids scores unknown items by their features, and reads
behaviours on them; for others, unknown items are below all others, and behaviours on them are not read.

Symbols: B queries, I items of today, n candidates of a query.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from contract.bundle.tensors import SequenceSpec
from models.base import SequentialRecommender, Tensors
from training.data.prepare import Prepared
from training.judging.metrics import Counts
from training.judging.scores import ModelScores, Scores
from training.rows.split import Rows


class ServedScores(ModelScores):
    """The scores of an older model on today's data.

    Args:
        model: in evaluation mode; its indices are the first ones of today's.
        users: that it knows.
        prepared: today's data.
        spec: the model's inputs.
    """

    def __init__(self, model: SequentialRecommender, users: int, prepared: Prepared, spec: SequenceSpec) -> None:
        known = prepared.columns["items"] <= model.item_count
        self._before = np.concatenate(([0], np.cumsum(known)))
        columns = {name: column[known] for name, column in prepared.columns.items()}
        super().__init__(model, replace(prepared, columns=columns), spec)
        self._width, self._items, self._users = len(prepared.items) + 1, model.item_count, users

    def all(self, piece: Rows) -> Scores:
        """See `training.judging.scores.Scorer`."""
        scores = super().all(piece)
        lowest = scores[:, 1:].min(axis=1, keepdims=True) - 1
        return np.concatenate((scores, np.repeat(lowest, self._width - scores.shape[1], axis=1)), axis=1)

    def lists(self, piece: Rows, candidates: Counts) -> Scores:
        """See `training.judging.scores.Scorer`."""
        known: NDArray[np.bool_] = candidates <= self._items
        scores = super().lists(piece, np.where(known, candidates, 1))
        return np.where(known, scores, scores.min(axis=1, keepdims=True) - 1)

    def _state(self, piece: Rows) -> Tensors:
        starts, stops = self._before[piece.starts], self._before[piece.stops]
        inputs = super()._inputs(piece._replace(starts=starts, stops=stops))
        return self._model.state_of(_with_known_users(inputs, self._users))


class FeatureScores(ModelScores):
    """The scores of an older model that has a vector for every item of today.

    Args:
        model: in evaluation mode, grown to today's items (training/later.py).
        users: that it knows.
        prepared: today's data.
        spec: the model's inputs.
    """

    def __init__(self, model: SequentialRecommender, users: int, prepared: Prepared, spec: SequenceSpec) -> None:
        super().__init__(model, prepared, spec)
        self._users = users

    def _inputs(self, piece: Rows) -> Tensors:
        return _with_known_users(super()._inputs(piece), self._users)


def _with_known_users(inputs: Tensors, users: int) -> Tensors:
    if "user" not in inputs:
        return inputs
    return {**inputs, "user": torch.where(inputs["user"] <= users, inputs["user"], 0)}
