"""The three graphs of a model that scores new items: `item`, `encode_new`, `score_new` (contract/bundle/manifest.py).

Symbols: B rows, M flat candidates, C new items, E and S widths of the two rows that describe a new item.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contract.bundle.tensors import Arrays
from contract.progress import Progress
from exporter.graphs.modules import SCORES, Names, in_context
from exporter.graphs.tables import TableBook
from exporter.graphs.trace import TracedGraph, tensors_of, trace_graph
from exporter.rows import Requests, Rows
from models.base import NewRows, SequentialRecommender, Tensors
from models.parts.new_items import NEW_ITEMS

ITEM_OUTPUTS: Final = ("history", "candidates")
NEW_FLAT_INPUTS: Final = ("vectors", "rows")

Codes = list[NDArray[np.int64]]  # of each feature in the order of `described_by`, (C, values)


class NewBatch(NamedTuple):
    """A batch with new items, as the service would send it."""

    codes: Codes
    inputs: Arrays  # as Rows.inputs; item index I + 1 + c is new item c
    items: NDArray[np.int64]  # (M,) the new items that are candidates, from 0
    rows: NDArray[np.int64]  # (M,)
    requests: Requests | None = None

    def only(self, request: int) -> NewBatch:
        """Return one request as a batch."""
        return NewBatch(self.codes, *self.flat.only(request))

    @property
    def flat(self) -> Rows:
        """Return the batch with new items as candidates."""
        return Rows(self.inputs, self.items, self.rows, self.requests)


class TracedNew(NamedTuple):
    """The three graphs."""

    item: TracedGraph
    encode: TracedGraph
    score: TracedGraph
    features: tuple[str, ...]


class ItemGraph(nn.Module):
    """`describe` from the codes of each feature, in order."""

    def __init__(self, model: SequentialRecommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Return the rows for histories (C, E) and for candidates (C, S)."""
        return tuple(self.model.describe(dict(zip(self.model.described_by, arrays, strict=True))))


class EncodeNewGraph(nn.Module):
    """`encode` with new items: its inputs, and then the rows of new items (C, E)."""

    def __init__(self, model: SequentialRecommender, names: Names) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Return states and explanations, each with leading dimension B."""
        encoded = self.model.encode(dict(zip((*self.names.inputs, NEW_ITEMS), arrays, strict=True)))
        outputs = [encoded.state[key] for key in self.names.state_keys]
        return (*outputs, *(encoded.explanation[name] for name in self.names.encode_explanation))


class ScoreNewGraph(nn.Module):
    """`score_new` from the states, candidates' rows (M, S) and rows (M,), and the context as `score`."""

    def __init__(self, model: SequentialRecommender, names: Names) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Return scores and explanations, each with leading dimension M."""
        count = len(self.names.state_keys)
        state, (vectors, rows, *context) = arrays[:count], arrays[count:]
        states = in_context(self.model, dict(zip(self.names.state_keys, state, strict=True)), *context)
        scored = self.model.score_new(states, vectors, rows)
        return (scored.scores, *(scored.explanation[name] for name in self.names.score_explanation))


def feature_input(place: int) -> str:
    """Return the name of `item`'s input for the feature at this place: a feature's own name may be any text."""
    return f"feature_{place}"


def trace_new(model: SequentialRecommender, names: Names, sample: NewBatch, book: TableBook) -> TracedNew:
    """Export the three graphs of a model that describes new items.

    Args:
        model: in evaluation mode, with `described_by`.
        names: of its `encode` and `score`.
        sample: at least two rows, two candidates and two new items, and three different numbers of them.
        book: with the tables of `encode` and `score`, so that equal ones are shared.

    Raises:
        ExportError: a graph cannot be exported.
    """
    codes = tuple(map(torch.from_numpy, sample.codes))
    with torch.no_grad():
        described = model.describe(dict(zip(model.described_by, codes, strict=True)))
        inputs = new_inputs(sample, described)
        encoded = model.encode(inputs)
    state = tuple(encoded.state[key] for key in names.state_keys)
    vectors, rows = described.candidates[torch.from_numpy(sample.items)], torch.from_numpy(sample.rows)
    context = () if sample.requests is None else sample.requests.tensors
    leading = [*["B"] * len(state), "M", "M", *["R"] * len(context)]
    with Progress("tracing the graphs of new items", 3) as progress:
        item = trace_graph(
            "item", ItemGraph(model), codes, ["C"] * len(codes), [feature_input(place) for place in range(len(codes))],
            ITEM_OUTPUTS, "C", book,
        )  # fmt: skip
        progress.advance()
        encode = trace_graph(
            "encode_new", EncodeNewGraph(model, names), tuple(inputs.values()), [*["B"] * len(names.inputs), "C"],
            (*names.inputs, NEW_ITEMS), (*names.state, *names.encode_explanation), "B", book,
        )  # fmt: skip
        progress.advance()
        score = trace_graph(
            "score_new", ScoreNewGraph(model, names), (*state, vectors, rows, *context), leading,
            (*names.state, *NEW_FLAT_INPUTS, *names.context), (SCORES, *names.score_explanation), "M", book,
        )  # fmt: skip
        progress.advance()
    return TracedNew(item, encode, score, model.described_by)


def new_inputs(batch: NewBatch, described: NewRows) -> Tensors:
    """Return the inputs of `encode` for a batch with new items."""
    return tensors_of(batch.flat) | {NEW_ITEMS: described.history}
