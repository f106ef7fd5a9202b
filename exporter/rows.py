"""Rows for tracing, for parity and for a bundle's golden scores: seeded, over the run's own vocabulary.

Symbols: B rows, T sequence length, M flat candidates of all rows, R requests, F inputs of the context.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from contract.behaviours.actions import ACTION_CODES
from contract.bundle.context import CONTEXT, CONTEXT_ROWS, ContextSpec
from contract.bundle.tensors import Arrays, SequenceSpec, windows

FLAT_INPUTS: Final = ("candidates", "rows")
CONTEXT_INPUTS: Final = (CONTEXT, CONTEXT_ROWS)
_START_MS: Final = 1_600_000_000_000
_GAP_MS: Final = 6 * 3_600_000.0  # mean time between two behaviours
_EDGES_MS: Final = 1_000 * (2 ** np.arange(24) - 1)  # where models that bin the logarithm of a gap change bins
_LIKES: Final = 41  # ratings x 10, 0 to 50 in halves of five
_MAX_PLAY_MS: Final = 600_000
_MORE_COUNTS: Final = (4, 1)  # candidates of the two requests beyond the rows


class Requests(NamedTuple):
    """The requests of a batch, for a model that reads their context: two of them may have one user."""

    codes: NDArray[np.int64]  # (R, F)
    states: NDArray[np.int64]  # (R,) the row of each

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both as tensors."""
        return torch.from_numpy(self.codes), torch.from_numpy(self.states)


class Rows(NamedTuple):
    """A batch as the service would send it."""

    inputs: Arrays  # by SequenceSpec.names: (B, T) or (B,)
    candidates: NDArray[np.int64]  # (M,)
    rows: NDArray[np.int64]  # (M,) places among the requests, or among the rows of a bundle without a context
    requests: Requests | None = None

    @property
    def flat(self) -> dict[str, NDArray[np.int64]]:
        """Return the inputs of `score` beside the state, by name."""
        return {**dict(zip(FLAT_INPUTS, (self.candidates, self.rows), strict=True)), **self.context}

    @property
    def context(self) -> dict[str, NDArray[np.int64]]:
        """Return those of them that a context needs, by name."""
        return {} if self.requests is None else dict(zip(CONTEXT_INPUTS, self.requests, strict=True))

    def row_of(self, request: int) -> int:
        """Return the row whose state a request reads."""
        return request if self.requests is None else int(self.requests.states[request])

    def only(self, request: int) -> Rows:
        """Return one request as a batch."""
        mine, row = self.rows == request, self.row_of(request)
        inputs = {name: values[row : row + 1] for name, values in self.inputs.items()}
        first = np.zeros(int(mine.sum()), dtype=np.int64)
        if self.requests is None:
            return Rows(inputs, self.candidates[mine], first)
        own = Requests(self.requests.codes[request : request + 1], np.zeros(1, dtype=np.int64))
        return Rows(inputs, self.candidates[mine], first, own)


class RowMaker:
    """Makes rows over a vocabulary.

    Args:
        spec: what the model reads.
        item_count: items of the vocabulary.
        user_count: users of the vocabulary, 0 without one.
        popularity: (items + 1,) counts; frequent items are drawn more often. None: evenly.
        seed: same seed, same rows.
        context: inputs of the context of requests. There are then two requests more than rows, of the first and last.
    """

    def __init__(
        self,
        spec: SequenceSpec,
        item_count: int,
        user_count: int = 0,
        popularity: NDArray[np.float32] | None = None,
        seed: int = 0,
        context: Sequence[ContextSpec] = (),
    ) -> None:
        self._context = context
        self._spec = spec
        self._item_count = item_count
        self._user_count = user_count
        self._random = np.random.default_rng(seed)
        weights = np.ones(item_count) if popularity is None else popularity[1:].astype(np.float64) + 1.0
        self._chances = weights / weights.sum()

    def make(self, lengths: Sequence[int], counts: Sequence[int]) -> Rows:
        """Return a batch: row b has `lengths[b]` behaviours and `counts[b]` candidates; every second user is known."""
        stops = np.cumsum(np.array(lengths, dtype=np.int64))
        flat = self._flat(int(stops[-1]))
        inputs = windows(
            {name: flat[name] for name in self._spec.columns}, np.array([0, *stops[:-1]]), stops, self._spec.length
        )
        users = self._random.integers(1, self._user_count + 1, len(lengths)) if self._user_count else 0
        newest = max([_START_MS, *flat["times"][-1:]])
        per_row = {
            "user": np.where(np.arange(len(lengths)) % 2 == 0, users, 0).astype(np.int64),
            "request_time": np.full(len(lengths), newest + int(_GAP_MS), dtype=np.int64),
        }
        requests = self._requests(len(lengths)) if self._context else None
        counts = [*counts, *_MORE_COUNTS] if requests is not None else counts
        rows = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        inputs |= {name: per_row[name] for name in self._spec.row_inputs}
        return Rows(inputs, self._items(len(rows)), rows, requests)

    def _requests(self, rows: int) -> Requests:
        states = np.array([*range(rows), 0, rows - 1], dtype=np.int64)
        codes = [self._random.integers(0, spec.cardinality, len(states)) for spec in self._context]
        return Requests(np.stack(codes, axis=1).astype(np.int64), states)

    def spoil_padding(self, rows: Rows) -> Rows:
        """Return the same rows with junk in the padded slots of every column but `items`."""
        padded = rows.inputs["items"] == 0
        junk = self._flat(padded.size)
        spoilt: Arrays = {
            str(name): np.where(padded, junk[name].reshape(padded.shape), rows.inputs[name])
            for name in self._spec.columns
            if name != "items"
        }
        return rows._replace(inputs={**rows.inputs, **spoilt})

    def _flat(self, count: int) -> Arrays:
        codes = np.array([ACTION_CODES[action] for action in self._spec.actions], dtype=np.int64)
        gaps = self._random.exponential(_GAP_MS, count).astype(np.int64)
        gaps = np.where(self._random.random(count) < 0.5, self._random.choice(_EDGES_MS, count), gaps)
        return {
            "items": self._items(count),
            "times": _START_MS + np.cumsum(gaps),
            "actions": self._random.choice(codes, count),
            "values": self._random.integers(0, _LIKES, count) // 5 * 5,
            "plays": self._random.integers(0, _MAX_PLAY_MS, count),
        }

    def _items(self, count: int) -> NDArray[np.int64]:
        return self._random.choice(self._item_count, count, p=self._chances).astype(np.int64) + 1
