"""The scores that are judged: a model's, and those of the baselines that every result is compared with.

| Baseline | Score of an item |
| --- | --- |
| popularity | its training interactions |
| popularity_of_day | its interactions in the 24 hours before the query's full hour; protocols that split by time |
| chance | the same for all items: the expected metric of a random order |

Symbols: B queries, I items, n candidates of a query.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from contract.bundle.tensors import SequenceSpec
from models.base import SequentialRecommender, Tensors
from training.data.prepare import Prepared
from training.data.times import HOUR_MS
from training.judging.metrics import Counts
from training.rows.loader import Loader, as_tensors
from training.rows.split import Rows

Scores = NDArray[np.float32]

_CELLS: Final = {"A": 2_000_000, "B": 2_000_000, "C": 100_000, "D": 20_000, "E": 20_000}
"""Scores computed at once, by serving class: bounds the memory for any catalogue."""
_DAY_HOURS: Final = 24


class Scorer(Protocol):
    """Scores the candidates of some queries; `cells` is the number of scores to ask for at once."""

    cells: int

    def all(self, piece: Rows) -> Scores:
        """Return the scores of all items, (B, I+1); column 0 means nothing but is finite."""

    def lists(self, piece: Rows, candidates: Counts) -> Scores:
        """Return the scores of one list of candidates (B, n) per query, (B, n)."""


class ModelScores:
    """A model's scores.

    Args:
        model: in evaluation mode.
        prepared: the data.
        spec: the model's inputs.
    """

    def __init__(self, model: SequentialRecommender, prepared: Prepared, spec: SequenceSpec) -> None:
        self.cells = _CELLS[model.serving_class]
        self._model, self._prepared, self._spec = model, prepared, spec
        self._device = next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))

    @torch.no_grad()
    def all(self, piece: Rows) -> Scores:
        """See `Scorer`."""
        scores = _array(self._model.score_all(self._state(piece)))
        scores[:, 0] = 0.0
        return scores

    @torch.no_grad()
    def lists(self, piece: Rows, candidates: Counts) -> Scores:
        """See `Scorer`."""
        return _array(self._model.score_lists(self._state(piece), torch.from_numpy(candidates).to(self._device)))

    def _state(self, piece: Rows) -> Tensors:
        return self._model.state_of(self._inputs(piece))

    def _inputs(self, piece: Rows) -> Tensors:
        loader = Loader(self._prepared, self._spec, piece, context=self._model.context_specs)
        inputs = loader.inputs(np.arange(len(piece.items)))
        return {name: tensor.to(self._device) for name, tensor in as_tensors(inputs).items()}


class FixedScores:
    """The same scores (I+1,) for every query: popularity, chance."""

    cells = _CELLS["A"]

    def __init__(self, scores: Scores) -> None:
        self._scores = scores

    def all(self, piece: Rows) -> Scores:
        """See `Scorer`."""
        return np.broadcast_to(self._scores, (len(piece.items), len(self._scores)))

    def lists(self, piece: Rows, candidates: Counts) -> Scores:
        """See `Scorer`."""
        return self._scores[candidates]


class DayScores:
    """Interactions with each item in the 24 hours before the query's full hour, of all users."""

    cells = _CELLS["A"]

    def __init__(self, prepared: Prepared) -> None:
        own = np.flatnonzero(prepared.columns["context"] == 0)
        order = own[np.argsort(prepared.columns["times_ms"][own], kind="stable")]
        self._hours = prepared.columns["times_ms"][order] // HOUR_MS
        self._items = prepared.columns["items"][order]
        self._width = len(prepared.items) + 1

    def all(self, piece: Rows) -> Scores:
        """See `Scorer`."""
        hours, places = np.unique(piece.times_ms // HOUR_MS, return_inverse=True)
        return np.stack([self._counts(int(hour)) for hour in hours])[places]

    def lists(self, piece: Rows, candidates: Counts) -> Scores:
        """See `Scorer`."""
        hours, places = np.unique(piece.times_ms // HOUR_MS, return_inverse=True)
        scores = np.zeros(candidates.shape, dtype=np.float32)
        for place, hour in enumerate(hours):
            mine = places == place
            scores[mine] = self._counts(int(hour))[candidates[mine]]
        return scores

    def _counts(self, hour: int) -> Scores:
        begin, end = np.searchsorted(self._hours, (hour - _DAY_HOURS, hour))
        return np.bincount(self._items[begin:end], minlength=self._width).astype(np.float32)


def baselines(prepared: Prepared, popularity: Scores, *, by_time: bool) -> dict[str, Scorer]:
    """Return the baselines by name.

    Args:
        prepared: the data.
        popularity: (I+1,) training interactions by item index.
        by_time: whether the split is by time.
    """
    found: dict[str, Scorer] = {"popularity": FixedScores(popularity.astype(np.float32))}
    if by_time:
        found["popularity_of_day"] = DayScores(prepared)
    return found | {"chance": FixedScores(np.zeros(len(popularity), dtype=np.float32))}


def _array(tensor: torch.Tensor) -> Scores:
    return np.array(tensor.float().cpu().numpy(), dtype=np.float32)
