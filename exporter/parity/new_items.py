"""Parity of the graphs for new items, and the golden rows of a bundle that has them.

Symbols: B rows, T length, M flat candidates, C new items, I items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from contract.bundle.item_features import FeatureSpec
from exporter.graphs.modules import SCORES, in_context
from exporter.graphs.new_items import ITEM_OUTPUTS, NEW_FLAT_INPUTS, NewBatch, TracedNew, feature_input, new_inputs
from exporter.graphs.trace import Traced
from exporter.parity.verify import Outputs, Parity, compare, make_session, run_session
from exporter.rows import RowMaker, Rows
from models.base import SequentialRecommender
from models.parts.new_items import NEW_ITEMS

_SHARE: Final = 0.3  # of the behaviours in a history that are of new items
_SEED: Final = 20_261
_NEW: Final = 7  # new items of a batch


class NewGolden(NamedTuple):
    """Golden rows with new items, and their scores (M,) by torch."""

    batch: NewBatch
    scores: NDArray[np.float32]

    def arrays(self) -> Mapping[str, NDArray[Any]]:  # Any: int64 or float32
        """Return the arrays of golden.npz; the inputs of `encode` other than the items are those of the other rows."""
        codes = {f"item.{feature_input(place)}": values for place, values in enumerate(self.batch.codes)}
        batch = self.batch
        flat = {"new.items": batch.inputs["items"], "new.candidates": batch.items, "new.rows": batch.rows}
        return {**codes, **flat, "new.scores": self.scores}


def new_batch(specs: Sequence[FeatureSpec], rows: Rows, item_count: int, seed: int = _SEED) -> NewBatch:
    """Return the rows with some behaviours moved to new items; their features are random, and all are candidates."""
    random = np.random.default_rng(seed)
    codes = [random.integers(0, spec.cardinality, (_NEW, spec.values), dtype=np.int64) for spec in specs]
    codes = [np.where(np.arange(_NEW)[:, None] == 0, 0, values) for values in codes]  # one item without any value
    items = rows.inputs["items"]
    moved = (items > 0) & (random.random(items.shape) < _SHARE)
    drawn = random.integers(item_count + 1, item_count + 1 + _NEW, items.shape, dtype=np.int64)
    inputs = {**rows.inputs, "items": np.where(moved, drawn, items)}
    R = len(items) if rows.requests is None else len(rows.requests.states)
    candidates = np.tile(np.arange(_NEW, dtype=np.int64), R)
    return NewBatch(codes, inputs, candidates, np.repeat(np.arange(R), _NEW), rows.requests)


def verify_new(
    model: SequentialRecommender, traced: Traced, new: TracedNew, specs: Sequence[FeatureSpec], maker: RowMaker
) -> list[Parity]:
    """Compare the three graphs with the model, and each row in a batch with the same row by itself.

    Raises:
        ExportError: as `exporter.parity.verify.verify`.
    """
    pair, report = NewGraphs(traced, new), []
    for rows in (1, 2, 7):
        made = maker.make([model.length - row % 3 for row in range(rows)], [1] * rows)
        batch = new_batch(specs, made, model.item_count, rows)
        found = pair.run(batch)
        report.append(_compared(f"new items, batch {rows}", model, traced, batch, found))
    singles = [batch.only(row) for row in range(7)]
    separate = [_compared("new items, one row", model, traced, one, pair.run(one)) for one in singles]
    return [*report, max(separate, key=lambda parity: parity.worst)]


def new_golden(
    model: SequentialRecommender, traced: Traced, new: TracedNew, specs: Sequence[FeatureSpec], golden: Rows
) -> tuple[NewGolden, Parity]:
    """Return the golden rows with some behaviours of new items, and ONNX Runtime's largest difference from them.

    Raises:
        ExportError: as `verify_new`.
    """
    batch = new_batch(specs, golden, model.item_count)
    parity = _compared("golden, new items", model, traced, batch, NewGraphs(traced, new).run(batch))
    return NewGolden(batch, _torch_outputs(model, traced, batch)[SCORES].astype(np.float32)), parity


class NewGraphs:
    """The three graphs in ONNX Runtime on the CPU, run one after another as the service does."""

    def __init__(self, traced: Traced, new: TracedNew) -> None:
        self._names = traced.names
        self._item, self._encode, self._score = (
            (make_session(graph.content), {name: traced.tables[name] for name in graph.tables})
            for graph in (new.item, new.encode, new.score)
        )

    def run(self, batch: NewBatch) -> Outputs:
        """Return every output of the graphs by name."""
        codes = {feature_input(place): values for place, values in enumerate(batch.codes)}
        described = _run(self._item, codes)
        encoded = _run(self._encode, {**batch.inputs, NEW_ITEMS: described["history"]})
        flat = dict(zip(NEW_FLAT_INPUTS, (described["candidates"][batch.items], batch.rows), strict=True))
        state = {name: encoded[name] for name in self._names.state}
        return described | encoded | _run(self._score, {**state, **flat, **batch.flat.context})


def _run(graph: tuple[Any, Outputs], inputs: Outputs) -> Outputs:  # Any: the package has no types
    session, tables = graph
    return run_session(session, {**inputs, **tables})


def _torch_outputs(model: SequentialRecommender, traced: Traced, batch: NewBatch) -> Outputs:
    codes = dict(zip(model.described_by, map(torch.from_numpy, batch.codes), strict=True))
    with torch.no_grad():
        described = model.describe(codes)
        encoded = model.encode(new_inputs(batch, described))
        vectors = described.candidates[torch.from_numpy(batch.items)]
        context = () if batch.requests is None else batch.requests.tensors
        states = in_context(model, encoded.state, *context)
        scored = model.score_new(states, vectors, torch.from_numpy(batch.rows))
    names = traced.names
    state = {name: encoded.state[key] for name, key in zip(names.state, names.state_keys, strict=True)}
    tensors = {**dict(zip(ITEM_OUTPUTS, described, strict=True)), **state, **encoded.explanation, SCORES: scored.scores}
    return {name: tensor.numpy() for name, tensor in {**tensors, **scored.explanation}.items()}


def _compared(case: str, model: SequentialRecommender, traced: Traced, batch: NewBatch, found: Outputs) -> Parity:
    return compare(case, traced, batch.flat, _torch_outputs(model, traced, batch), found)
