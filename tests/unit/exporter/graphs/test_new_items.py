"""Graphs for new items: torch and ONNX Runtime agree, and new items are scored from their features only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch

from contract.bundle.item_features import FeatureSpec
from exporter.errors import ExportError
from exporter.graphs.new_items import TracedNew, trace_new
from exporter.graphs.tables import TableBook
from exporter.graphs.trace import Traced, trace
from exporter.parity.new_items import NewGraphs, new_batch, verify_new
from exporter.parity.verify import TOLERANCE
from exporter.rows import RowMaker, Rows
from models.base import SequentialRecommender
from models.checks.catalogue import ITEMS, USERS, facts
from service.bundles.onnx_guard import refuse_unsafe
from tests.unit.exporter.fake_runs import sequence_of
from tests.unit.models.cases import build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.onnx,
]  # by default, tests/contract/test_new_items_bundle.py exports one model


class Exported(NamedTuple):
    model: SequentialRecommender
    specs: list[FeatureSpec]
    maker: RowMaker
    sample: Rows
    traced: Traced
    new: TracedNew


def exported(case: str, **changes: int) -> Exported:
    model, known = build(case, **changes), facts()
    specs = [
        FeatureSpec(
            name=name, kind="list", values=known.item_features[name].shape[1], cardinality=known.cardinalities[name]
        )
        for name in model.described_by
    ]
    maker, book = RowMaker(sequence_of(model), ITEMS, USERS), TableBook(min_bytes=200)
    sample = maker.make([0, 2, model.length], [3, 2, 2])
    traced = trace(model, sample, book)
    return Exported(
        model, specs, maker, sample, traced, trace_new(model, traced.names, new_batch(specs, sample, ITEMS), book)
    )


@pytest.fixture(scope="module")
def small() -> Exported:
    return exported("fmlp-new-items", blocks=1)


def test_graphs_for_new_items_agree_with_torch(small: Exported) -> None:
    check(small)


@pytest.mark.parametrize("case", ["fmlp-new-items", "sasrec-new-items", "pm-new-items", "pm-ranking-new-items"])
def test_graphs_for_new_items_of_every_model_agree_with_torch(case: str) -> None:
    check(exported(case))


def check(one: Exported) -> None:
    report = verify_new(one.model, one.traced, one.new, one.specs, one.maker)
    assert max(parity.worst for parity in report) < TOLERANCE
    for graph in (one.new.item, one.new.encode, one.new.score):
        refuse_unsafe(graph.content)
    scores = NewGraphs(one.traced, one.new).run(new_batch(one.specs, one.sample, ITEMS))["scores"].reshape(3, -1)
    assert np.ptp(scores[1:], axis=1).min() > 0  # items with other features have other scores


def test_histories_with_and_without_new_items_read_one_table(small: Exported) -> None:
    assert set(small.traced.encode.tables) & set(small.new.encode.tables)


def test_a_graph_that_differs_from_the_model_is_refused(small: Exported) -> None:
    changed = build("fmlp-new-items", blocks=1)
    with torch.no_grad():
        dict(changed.named_parameters())["items.side.out.weight"].mul_(1.5)
    with pytest.raises(ExportError, match="new items"):
        verify_new(changed, small.traced, small.new, small.specs, small.maker)
