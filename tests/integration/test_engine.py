"""The engine with the real ONNX Runtime: it runs only verified graphs, on the reported provider."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from threading import Thread

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper

from service.bundles.bundle import Bundle, load_bundle
from service.inference.engine import EngineError, OnnxEngine
from tests.support.builders import TinyModel

pytestmark = pytest.mark.onnx


def bundle_of(model: TinyModel, tmp_path: Path) -> Bundle:
    return load_bundle(model.write(tmp_path), max_bytes=10_000_000)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_of(TinyModel(), tmp_path)


def with_graphs(bundle: Bundle, encode: ModelProto | None = None, score: ModelProto | None = None) -> Bundle:
    return dataclasses.replace(
        bundle,
        encode_model=encode.SerializeToString() if encode else bundle.encode_model,
        score_model=score.SerializeToString() if score else bundle.score_model,
    )


def test_scores_are_those_of_the_model(bundle: Bundle) -> None:
    model, engine = TinyModel(), OnnxEngine(bundle, "cpu")
    encoded = engine.encode({"items": np.array([[0, 0, 4, 5, 6], [0, 0, 0, 0, 0]])})
    state = {name: encoded[name] for name in ("mean", "shift")}
    scored = engine.score(state, np.array([1, 2, 7]), np.array([0, 0, 1]))
    assert np.allclose(scored["scores"][:2], model.expected([4, 5, 6], [1, 2]), atol=1e-6)
    assert np.allclose(scored["scores"][2:], model.expected([], [7]), atol=1e-6)
    assert scored["level"].tolist() == [1, 2, 1]
    assert encoded["period_weights"].shape == (2, 3)


@pytest.mark.parametrize("map_tables", [True, False])
def test_a_table_in_its_own_file_gives_the_same_scores(tmp_path: Path, map_tables: bool) -> None:
    model = TinyModel(tabled=True)
    engine = OnnxEngine(load_bundle(model.write(tmp_path), max_bytes=10_000_000, map_tables=map_tables), "cpu")
    assert engine.verify_golden() < 1e-6
    encoded = engine.encode({"items": np.array([[0, 0, 4, 5, 6]])})
    scored = engine.score({name: encoded[name] for name in ("mean", "shift")}, np.array([1, 20]), np.array([0, 0]))
    assert np.allclose(scored["scores"], model.expected([4, 5, 6], [1, 20]), atol=1e-6)


def test_a_graph_that_takes_another_table_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    bundle = bundle_of(TinyModel(tabled=True), tmp_path)
    other = TinyModel(tabled=True, items=21)
    with pytest.raises(EngineError, match="input table_0 is"):
        OnnxEngine(with_graphs(bundle, encode=other.encode_graph(), score=other.score_graph()))
    with pytest.raises(EngineError, match="its inputs are"):
        OnnxEngine(with_graphs(bundle, encode=TinyModel().encode_graph()))


def test_golden_scores_hold_on_its_own_provider(bundle: Bundle) -> None:
    assert OnnxEngine(bundle).verify_golden() < 1e-6


def test_golden_scores_that_differ_are_refused(tmp_path: Path) -> None:
    engine = OnnxEngine(bundle_of(TinyModel(spoilt=frozenset({"golden"})), tmp_path))
    with pytest.raises(EngineError, match=r"golden scores differ by 1 on cpu, allowed 0\.0001"):
        engine.verify_golden()


def test_weights_that_were_zeroed_are_refused(bundle: Bundle) -> None:
    graph = TinyModel().score_graph()
    for tensor in graph.graph.initializer:
        if tensor.name in {"vectors", "bias"}:
            tensor.raw_data = bytes(len(tensor.raw_data))
    with pytest.raises(EngineError, match="golden scores differ"):
        OnnxEngine(with_graphs(bundle, score=graph)).verify_golden()


def test_weights_that_are_not_numbers_are_refused(bundle: Bundle) -> None:
    graph = TinyModel(nan_candidate=2).score_graph()
    with pytest.raises(EngineError, match="finite"):
        OnnxEngine(with_graphs(bundle, score=graph)).verify_golden()


def test_graphs_in_the_wrong_place_are_refused(bundle: Bundle) -> None:
    swapped = dataclasses.replace(bundle, encode_model=bundle.score_model, score_model=bundle.encode_model)
    with pytest.raises(EngineError, match="encode: its inputs are"):
        OnnxEngine(swapped)


def renamed(graph: ModelProto) -> ModelProto:
    graph.graph.input[0].name = "history"
    for node in graph.graph.node:
        node.input[:] = ["history" if name == "items" else name for name in node.input]
    return graph


def retyped(graph: ModelProto) -> ModelProto:
    graph.graph.output[2].type.tensor_type.elem_type = TensorProto.DOUBLE
    last = next(node for node in graph.graph.node if node.op_type == "Softmax")
    last.output[0] = "weights"
    graph.graph.node.append(helper.make_node("Cast", ["weights"], ["period_weights"], to=TensorProto.DOUBLE))
    return graph


def reshaped(graph: ModelProto) -> ModelProto:
    graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 7
    return graph


def of_a_newer_opset(graph: ModelProto) -> ModelProto:
    graph.opset_import[0].version = 99
    return graph


def of_a_newer_format(graph: ModelProto) -> ModelProto:
    graph.ir_version = 99
    return graph


@pytest.mark.parametrize("change", [renamed, retyped, reshaped, of_a_newer_opset, of_a_newer_format])
def test_a_graph_that_differs_from_the_manifest_or_is_too_new_is_refused(bundle: Bundle, change: object) -> None:
    assert callable(change)
    with pytest.raises(EngineError, match="encode: "):
        OnnxEngine(with_graphs(bundle, encode=change(TinyModel().encode_graph())))


def test_an_operator_that_nobody_knows_is_refused(bundle: Bundle) -> None:
    graph = TinyModel().score_graph()
    graph.graph.node[0].op_type = "Evil"
    with pytest.raises(EngineError, match="score: cannot be loaded"):
        OnnxEngine(with_graphs(bundle, score=graph))


def test_names_that_are_not_utf_8_are_refused(bundle: Bundle) -> None:
    sound = TinyModel().score_graph().SerializeToString()
    for name in (b"\x12\x01M", b"\x12\x06scores"):  # an axis, an output; protobuf's own classes would not write them
        broken = sound.replace(name, name[:-1] + b"\xf6")
        assert broken != sound
        with pytest.raises(EngineError, match="score: "):
            OnnxEngine(dataclasses.replace(bundle, score_model=broken))


def test_truncated_bytes_are_refused(bundle: Bundle) -> None:
    for place in range(1, len(bundle.score_model), 97):
        cut = dataclasses.replace(bundle, score_model=bundle.score_model[:place])
        with pytest.raises(EngineError):
            OnnxEngine(cut)


def test_files_rewritten_after_loading_change_nothing(tmp_path: Path) -> None:
    model = TinyModel()
    directory = model.write(tmp_path)
    bundle = load_bundle(directory, max_bytes=10_000_000)
    engine = OnnxEngine(bundle)
    for path in directory.iterdir():
        path.write_bytes(b"")
    assert engine.verify_golden() < 1e-6
    assert OnnxEngine(bundle).verify_golden() < 1e-6


def test_an_id_out_of_range_is_an_engine_error(bundle: Bundle) -> None:
    engine = OnnxEngine(bundle, "cpu")
    with pytest.raises(EngineError, match="encode: ") as caught:
        engine.encode({"items": np.full((1, 5), 1_000)})
    assert not caught.value.fatal


def test_rows_are_the_same_alone_and_in_a_batch(bundle: Bundle) -> None:
    engine = OnnxEngine(bundle)
    rows = np.random.default_rng(1).integers(0, 21, (32, 5))
    together = engine.encode({"items": rows})["mean"]
    alone = np.concatenate([engine.encode({"items": row[None]})["mean"] for row in rows])
    assert np.allclose(together, alone, atol=1e-6)


def test_warm_up_runs_every_batch_size_with_every_kind_of_input(tmp_path: Path) -> None:
    engine = OnnxEngine(bundle_of(TinyModel(users=3, reads_time=True), tmp_path))
    engine.warm_up([1, 8, 64], candidates=5)


def test_threads_share_one_engine(bundle: Bundle) -> None:
    engine = OnnxEngine(bundle, "cpu")
    rows = np.random.default_rng(1).integers(0, 21, (8, 5))
    expected = engine.encode({"items": rows})["mean"]
    results: list[bool] = []

    def work() -> None:
        for _ in range(50):
            results.append(np.array_equal(engine.encode({"items": rows})["mean"], expected))

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 200


def test_a_closed_engine_says_so(bundle: Bundle) -> None:
    engine = OnnxEngine(bundle, "cpu")
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.encode({"items": np.zeros((1, 5), dtype=np.int64)})


def test_the_number_of_threads_is_the_one_given(bundle: Bundle) -> None:
    assert OnnxEngine(bundle, "cpu", threads=3).threads == 3


def has_cuda() -> bool:
    return any(device.ep_name == "CUDAExecutionProvider" for device in onnxruntime.get_ep_devices())


@pytest.mark.skipif(has_cuda(), reason="this machine has a CUDA device")
def test_cuda_is_refused_where_it_would_silently_be_the_cpu(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="provider cuda was asked for, but ONNX Runtime runs on the CPU: "):
        OnnxEngine(bundle, "cuda")


@pytest.mark.skipif(has_cuda(), reason="this machine has a CUDA device")
def test_auto_takes_the_cpu_where_there_is_nothing_else_and_says_so(bundle: Bundle) -> None:
    assert OnnxEngine(bundle, "auto").provider == "cpu"


@pytest.mark.gpu
def test_cuda_gives_the_scores_of_the_cpu(bundle: Bundle) -> None:
    rows = {"items": np.random.default_rng(1).integers(0, 21, (16, 5))}
    engines = [OnnxEngine(bundle, "cuda"), OnnxEngine(bundle, "cpu")]
    assert [engine.provider for engine in engines] == ["cuda", "cpu"]
    means = [engine.encode(rows)["mean"] for engine in engines]
    assert np.allclose(*means, atol=1e-5)


def test_loading_and_refusing_write_nothing_to_the_terminal(tmp_path: Path) -> None:
    directory = TinyModel().write(tmp_path)
    program = """
import sys
from pathlib import Path
from service.bundles.bundle import load_bundle
from service.inference.engine import EngineError, OnnxEngine
bundle = load_bundle(Path(sys.argv[1]), max_bytes=10_000_000)
OnnxEngine(bundle, "auto").verify_golden()
for spoil in (b"", b"no model"):
    object.__setattr__(bundle, "score_model", spoil)
    try:
        OnnxEngine(bundle)
    except EngineError:
        pass
"""
    command = [sys.executable, "-W", "error", "-c", program, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
