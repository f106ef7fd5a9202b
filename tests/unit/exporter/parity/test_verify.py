"""Every model of the catalogue: torch and its two graphs in ONNX Runtime agree over shapes that were never traced."""

from __future__ import annotations

import onnx
import pytest

from exporter.check import exported
from exporter.graphs.trace import TracedGraph, trace
from exporter.parity.verify import TOLERANCE, OnnxPair, verify
from exporter.rows import RowMaker
from models.checks.catalogue import ITEMS, USERS
from models.checks.subject import Subject
from service.bundles.onnx_guard import refuse_unsafe
from tests.unit.exporter.fake_runs import sequence_of
from tests.unit.models.cases import CONTEXT, VARIANTS, build

QUICK = frozenset({"popularity"})
"""Cases that take half a second each; `make test-slow` runs the others, and an export compares its own."""

CASES = [pytest.param(case, marks=[] if case in QUICK else pytest.mark.slow, id=case) for case in VARIANTS]

SMALLER: dict[str, dict[str, int]] = {"mimn": {"length": 3}, "surge": {"length": 6}, "sasrec": {"blocks": 1}}
"""The exporter takes minutes for graphs that hold every step of a long sequence, and a second for each block."""


IN_CONTEXT = list({name: case for case, (name, _) in reversed(VARIANTS.items()) if name != "popularity"}.values())
"""The first case of each model that can read a context."""


def nodes_of(graph: TracedGraph) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(graph.content).graph.node]


@pytest.mark.onnx
@pytest.mark.parametrize("case", CASES)
def test_torch_and_onnx_runtime_agree(case: str) -> None:
    name, config = VARIANTS[case]
    traced, report = exported(Subject(name, config | SMALLER.get(name, {})))
    assert max(parity.worst for parity in report) < TOLERANCE
    assert {parity.rows for parity in report} >= {1, 2, 7, 64}
    for graph in (traced.encode, traced.score):
        refuse_unsafe(graph.content)  # masks and all: the service takes what the exporter makes
        proto = onnx.load_from_string(graph.content)
        assert {opset.domain for opset in proto.opset_import} <= {""}
        assert not proto.functions
        assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
        assert b".py" not in graph.content  # stack traces would carry this machine's paths
    assert nodes_of(traced.score).count("Shape") == 0  # what a candidate costs is gathers and arithmetic


@pytest.mark.onnx
@pytest.mark.slow
@pytest.mark.parametrize("case", IN_CONTEXT)
def test_torch_and_onnx_runtime_agree_in_any_context(case: str) -> None:
    """Two requests of each batch share a row of the state with another one, and ask in other contexts."""
    model = build(case, CONTEXT, **SMALLER.get(VARIANTS[case][0], {}))
    maker = RowMaker(sequence_of(model), ITEMS, USERS, context=CONTEXT)
    traced = trace(model, maker.make([0, 2, model.length], [3, 2, 2]))
    assert [one.name for one in traced.score.spec.inputs][-4:] == ["candidates", "rows", "context", "context_rows"]
    assert max(parity.worst for parity in verify(model, traced, maker, model.length)) < TOLERANCE
    refuse_unsafe(traced.score.content)
    spoilt = maker.make([3, 3], [40, 40])
    assert spoilt.requests is not None
    pair, before = OnnxPair(traced), OnnxPair(traced).run(spoilt)["scores"]
    unknown = spoilt._replace(requests=spoilt.requests._replace(codes=0 * spoilt.requests.codes))
    assert abs(pair.run(unknown)["scores"] - before).max() > 1e-3
