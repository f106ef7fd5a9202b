"""Weights that are not finite are refused in every place and every form in which a file can hold them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

from service.bundles.bundle import BundleError, load_bundle
from service.bundles.onnx_guard import UnsafeGraph, refuse_unsafe
from service.bundles.protobuf import NotProtobuf
from service.bundles.weights import NotFinite, check_tensor
from tests.support.builders import TinyModel

FLOATS = {
    "float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16,
    "double": TensorProto.DOUBLE,
}  # fmt: skip
NAN, INF = float("nan"), float("inf")
WEIGHTS = [0.5, -2.0, 3.0, 1.0]


def tensor(values: list[float], kind: int = TensorProto.FLOAT, *, raw: bool = True) -> TensorProto:
    if not raw:
        return helper.make_tensor("table", kind, [len(values)], values)
    content = np.array(values, dtype=np.float64)
    if kind == TensorProto.BFLOAT16:
        packed = (content.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    else:
        packed = content.astype(helper.tensor_dtype_to_np_dtype(kind)).tobytes()
    return TensorProto(name="table", data_type=kind, dims=[len(values)], raw_data=packed)


def check(one: TensorProto) -> None:
    check_tensor(memoryview(one.SerializeToString()))


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("kind", FLOATS.values(), ids=FLOATS)
def test_one_weight_that_is_not_a_number_is_found_in_every_format(kind: int, raw: bool) -> None:
    check(tensor(WEIGHTS, kind, raw=raw))
    for place in range(4):
        for bad in (NAN, INF, -INF):
            values = [*WEIGHTS[:place], bad, *WEIGHTS[place + 1 :]]
            with pytest.raises(NotFinite, match="'table' has"):
                check(tensor(values, kind, raw=raw))


@pytest.mark.parametrize("kind", FLOATS.values(), ids=FLOATS)
@pytest.mark.parametrize("mask", [[-INF], [INF], [0.0, -INF, 0.0], [1.0, -INF], [-INF] * 5, [0.0, 1.0, INF, -INF]])
def test_infinity_is_allowed_in_a_mask(mask: list[float], kind: int) -> None:
    check(tensor(mask, kind))
    with pytest.raises(NotFinite, match="not a number"):
        check(tensor([*mask, NAN], kind))


def test_the_largest_and_smallest_numbers_are_finite() -> None:
    for kind, dtype in ((TensorProto.FLOAT, np.float32), (TensorProto.DOUBLE, np.float64)):
        limits = np.finfo(dtype)
        check(tensor([float(limits.min), float(limits.max), float(limits.tiny)], kind))
    check(tensor([65504.0, -65504.0], TensorProto.FLOAT16, raw=False))


def test_a_fault_behind_millions_of_good_weights_is_found() -> None:
    values = np.ones(3_000_001, dtype=np.float32) * 0.5
    check(numpy_helper.from_array(values, "table"))
    values[-1] = NAN
    with pytest.raises(NotFinite):
        check(numpy_helper.from_array(values, "table"))


def test_whole_numbers_and_booleans_are_never_faults() -> None:
    for values in (np.array([-1, 2**62]), np.array([True, False]), np.array([255], np.uint8)):
        check(numpy_helper.from_array(values, "table"))


def test_a_type_that_cannot_be_checked_is_refused() -> None:
    with pytest.raises(NotFinite, match="'table' has the data type 17"):
        check(TensorProto(name="table", data_type=TensorProto.FLOAT8E4M3FN, dims=[1], raw_data=b"\x7f"))


def test_a_tensor_cut_inside_a_number_is_malformed() -> None:
    with pytest.raises(NotProtobuf):
        check(TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[1], raw_data=b"\x00" * 5))


def graph_with(change: Callable[[GraphProto], object]) -> bytes:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    change(graph)
    return helper.make_model(graph).SerializeToString()


def in_subgraph(graph: GraphProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [tensor([1.5, NAN])])
    graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))


def as_sparse(graph: GraphProto) -> None:
    indices = numpy_helper.from_array(np.array([1]), "places")
    graph.sparse_initializer.append(SparseTensorProto(values=tensor([NAN]), indices=indices, dims=[4]))


PLACES: dict[str, Callable[[GraphProto], object]] = {
    "initializer": lambda graph: graph.initializer.append(tensor([1.5, NAN])),
    "constant": lambda graph: graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor([1.5, INF]))),
    "float": lambda graph: graph.node.append(helper.make_node("Constant", [], ["c"], value_float=NAN)),
    "floats": lambda graph: graph.node.append(helper.make_node("Constant", [], ["c"], value_floats=[1.5, -INF])),
    "attribute": lambda graph: graph.node.append(helper.make_node("LeakyRelu", ["x"], ["z"], alpha=NAN)),
    "subgraph": in_subgraph,
    "sparse": as_sparse,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_weight_that_is_not_finite_is_found_wherever_it_is(place: str) -> None:
    refuse_unsafe(graph_with(lambda graph: None))
    with pytest.raises(UnsafeGraph, match=r"not a number|infinite"):
        refuse_unsafe(graph_with(PLACES[place]))


def test_an_infinite_constant_alone_is_a_mask() -> None:
    node = helper.make_node("Constant", [], ["c"], value_float=-INF)
    refuse_unsafe(graph_with(lambda graph: graph.node.append(node)))


def test_a_weight_in_a_function_of_the_model_is_found() -> None:
    body = helper.make_node("Constant", [], ["y"], value=tensor([NAN]))
    opset = [helper.make_opsetid("", 18)]
    function = helper.make_function("own", "Bad", ["x"], ["y"], [body], opset)
    graph = helper.make_graph([helper.make_node("Bad", ["x"], ["y"], domain="own")], "g", [], [])
    with pytest.raises(UnsafeGraph, match="not a number"):
        refuse_unsafe(helper.make_model(graph, functions=[function]).SerializeToString())


def test_a_bundle_with_one_item_that_is_not_a_number_is_refused_and_its_table_named(tmp_path: Path) -> None:
    """The golden rows do not have the item, so they pass."""
    directory = TinyModel(nan_weight=9).write(tmp_path)
    with pytest.raises(BundleError, match=r"score\.onnx: 'bias' has a weight that is not a number"):
        load_bundle(directory, max_bytes=10_000_000)


@given(content=st.binary(max_size=100), place=st.integers(0, 50))
def test_any_bytes_are_judged_as_a_tensor_and_never_crash_the_check(content: bytes, place: int) -> None:
    whole = tensor(WEIGHTS, TensorProto.FLOAT16, raw=False).SerializeToString()
    for candidate in (content, whole[:place] + content + whole[place:]):
        with suppress(NotFinite, NotProtobuf):
            check_tensor(memoryview(candidate))


@given(values=st.lists(st.floats(width=16), min_size=1, max_size=20))
def test_the_verdict_is_numpy_s_own(values: list[float]) -> None:
    table = np.array(values, dtype=np.float16)
    ordinary = np.isfinite(table) & (table != 0) & (table != 1)
    is_bad = bool(np.isnan(table).any() or (np.isinf(table).any() and ordinary.any()))
    for raw in (True, False):
        try:
            check(tensor(values, TensorProto.FLOAT16, raw=raw))
            assert not is_bad
        except NotFinite:
            assert is_bad


def test_models_of_ours_still_pass(tmp_path: Path) -> None:
    for model in (TinyModel().score_graph(), TinyModel(users=2, reads_time=True, trips=3).encode_graph()):
        assert isinstance(model, ModelProto)
        refuse_unsafe(model.SerializeToString())
