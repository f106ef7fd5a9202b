"""A large table is in a bundle once, in a file of its own, and both graphs read it as an input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from contract.bundle.manifest import MAX_TABLES
from exporter.graphs.tables import TableBook
from exporter.graphs.trace import Traced, TracedGraph, trace
from exporter.parity.verify import verify
from tests.unit.exporter.small_models import ITEMS, LENGTH, WIDTH, Plain, WholeTable, maker, sample

pytestmark = pytest.mark.onnx

TABLE_BYTES = (ITEMS + 1) * WIDTH * 4


def exported(model: Plain, min_table_bytes: int) -> Traced:
    return trace(model.eval(), sample(model), TableBook(min_table_bytes))


def inputs_of(graph: TracedGraph) -> list[str]:
    return [value.name for value in onnx.load_from_string(graph.content).graph.input]


def test_item_table_is_taken_out_once_and_read_by_both_graphs() -> None:
    model = Plain()
    traced = exported(model, TABLE_BYTES)
    assert list(traced.tables) == ["table_0"]
    assert np.array_equal(traced.tables["table_0"], model.items.weight.detach().numpy())
    assert (traced.encode.tables, traced.score.tables) == (("table_0",), ("table_0",))
    assert inputs_of(traced.encode) == ["items", "table_0"]
    assert inputs_of(traced.score) == ["user", "candidates", "rows", "table_0"]
    assert [spec.name for spec in traced.encode.spec.inputs] == ["items"]
    verify(model, traced, maker(model), LENGTH)


def test_table_below_the_limit_stays_in_its_graph() -> None:
    gather = helper.make_node("Gather", ["t", "x"], ["y"])
    size = numpy_helper.to_array(graph_of([gather], ["t"]).initializer[0]).nbytes
    for limit, taken in ((size, ("table_0",)), (size + 1, ())):
        graph = graph_of([gather], ["t"])
        assert TableBook(limit).take(graph) == taken
        assert len(graph.initializer) == 1 - len(taken)


def test_table_that_only_score_uses_is_a_table_of_its_own() -> None:
    model = WholeTable()
    traced = exported(model, TABLE_BYTES)
    assert (traced.encode.tables, traced.score.tables) == (("table_0",), ("table_1",))
    verify(model, traced, maker(model), LENGTH)


def graph_of(
    nodes: Sequence[onnx.NodeProto], tables: Sequence[str], outputs: Sequence[str] = ("y",)
) -> onnx.GraphProto:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    return helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["B"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(values + place, name) for place, name in enumerate(tables)],
    )


def inner(table: str) -> onnx.GraphProto:
    gather = helper.make_node("Gather", [table, "x"], ["z"])
    return helper.make_graph([gather], "inner", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)])


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([helper.make_node("Gather", ["t", "x"], ["y"], axis=1)], ["y"]),
        ([helper.make_node("MatMul", ["t", "x"], ["y"])], ["y"]),
        ([helper.make_node("Gather", ["t", "x"], ["y"]), helper.make_node("Neg", ["t"], ["n"])], ["y"]),
        ([helper.make_node("Gather", ["t", "x"], ["y"]), helper.make_node("If", ["c"], ["w"], then_branch=inner("t"))],
         ["y"]),
        ([helper.make_node("Gather", ["t", "x"], ["y"])], ["y", "t"]),
    ],
    ids=["another axis", "a product", "rows and all of it", "a subgraph", "an output"],
)  # fmt: skip
def test_table_that_is_read_in_another_way_stays_in_its_graph(nodes: list[onnx.NodeProto], outputs: list[str]) -> None:
    graph = graph_of(nodes, ["t"], outputs)
    assert TableBook(1).take(graph) == ()
    assert [tensor.name for tensor in graph.initializer] == ["t"]


def test_a_bundle_has_at_most_as_many_tables_as_the_contract_allows() -> None:
    names = [f"t{place}" for place in range(MAX_TABLES + 3)]
    graph = graph_of([helper.make_node("Gather", [name, "x"], [f"y_{name}"]) for name in names], names)
    book = TableBook(1)
    assert len(book.take(graph)) == len(book.tables) == MAX_TABLES
    assert len(graph.initializer) == 3
