"""Every model of the catalogue: torch and its two graphs in ONNX Runtime agree over shapes that were never traced."""

from __future__ import annotations

import onnx
import pytest

from exporter.check import exported
from exporter.graphs.trace import TracedGraph
from exporter.parity.verify import TOLERANCE
from models.checks.subject import Subject
from service.bundles.onnx_guard import refuse_unsafe
from tests.unit.models.cases import VARIANTS

QUICK = frozenset({"popularity"})
"""Cases that take half a second each; `make test-slow` runs the others, and an export compares its own."""

CASES = [pytest.param(case, marks=[] if case in QUICK else pytest.mark.slow, id=case) for case in VARIANTS]

SMALLER: dict[str, dict[str, int]] = {"mimn": {"length": 3}, "surge": {"length": 6}, "sasrec": {"blocks": 1}}
"""The exporter takes minutes for graphs that hold every step of a long sequence, and a second for each block."""


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
