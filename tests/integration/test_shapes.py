"""Runs at fixed shapes, as CUDA graphs need them, with the CPU as the device: padding changes no answer."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.bundles.bundle import Bundle, load_bundle
from service.inference.engine import EngineError, OnnxEngine
from service.inference.inputs import RankRow
from service.inference.scorer import Inference, ScoredRow
from service.inference.shapes import ShapedState
from service.inference.state_cache import StateCache
from tests.support.builders import TinyModel, behaviours

pytestmark = pytest.mark.onnx

MODEL = TinyModel(tabled=True, users=3, reads_time=True)
LARGEST = 32_768  # candidates


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(MODEL.write(tmp_path), max_bytes=10_000_000)


@pytest.fixture
def engine(bundle: Bundle) -> OnnxEngine:
    made = OnnxEngine(bundle, "cpu", binds=True)
    assert made.capture([4, 1]) == (1, 4)
    return made


def inputs(*histories: list[int]) -> dict[str, NDArray[np.int64]]:
    items = np.zeros((len(histories), MODEL.length), dtype=np.int64)
    for row, history in zip(items, histories, strict=True):
        row[MODEL.length - len(history) :] = history
    none = np.zeros(len(histories), dtype=np.int64)
    return {"items": items, "user": none, "request_time": none}


def score(engine: OnnxEngine, state: Any, *candidates: int) -> NDArray[np.float32]:
    flat = np.array(candidates, dtype=np.int64)
    return np.asarray(engine.score(state, flat, np.zeros(len(flat), dtype=np.int64))["scores"])


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 9])
def test_answers_are_those_of_plain_runs_at_any_size(bundle: Bundle, engine: OnnxEngine, rows: int) -> None:
    """1 and 4 rows fill a shape, 2 and 3 are padded, 5 and 9 are too many and run plainly."""
    random = np.random.default_rng(rows)
    asked = [
        RankRow(
            f"u{place}", behaviours([f"i{item}" for item in random.integers(1, 21, place)]),
            random.integers(1, 21, 1 + 7 * place), 9_000, explain=True,
        )
        for place in range(rows)
    ]  # fmt: skip
    plain = Inference(bundle, OnnxEngine(bundle, "cpu"), StateCache(100))
    shaped = Inference(bundle, engine, StateCache(100))
    for batch in (asked[:1], asked, asked):  # fresh, mixed and cached states
        for one, other in zip(plain.run(batch), shaped.run(batch), strict=True):
            assert isinstance(one, ScoredRow)
            assert isinstance(other, ScoredRow)
            assert np.allclose(one.scores, other.scores, atol=1e-5)
            assert all(np.allclose(one.explanation[name], other.explanation[name]) for name in one.explanation)


def test_a_state_whose_buffers_were_written_again_is_sent_again(engine: OnnxEngine) -> None:
    first = engine.encode(inputs([4, 5, 6]))
    second = engine.encode(inputs([7, 8]))
    assert isinstance(first, ShapedState)
    assert isinstance(second, ShapedState)
    for _ in range(2):
        assert np.allclose(score(engine, first, 1, 2), MODEL.expected([4, 5, 6], [1, 2]), atol=1e-6)
        assert np.allclose(score(engine, second, 1, 2), MODEL.expected([7, 8], [1, 2]), atol=1e-6)


def test_a_state_from_the_host_does_not_pass_for_the_one_on_the_device(engine: OnnxEngine) -> None:
    fresh = engine.encode(inputs([4, 5, 6]))
    cached = dict(engine.encode(inputs([7, 8])))
    fresh_again = engine.encode(inputs([4, 5, 6]))
    assert np.allclose(score(engine, cached, 3), MODEL.expected([7, 8], [3]), atol=1e-6)
    for state in (fresh, fresh_again):
        assert np.allclose(score(engine, state, 3), MODEL.expected([4, 5, 6], [3]), atol=1e-6)


def test_what_is_kept_of_a_batch_is_not_written_by_the_next_one(engine: OnnxEngine) -> None:
    kept = engine.encode(inputs([4, 5, 6]))["mean"].copy(), engine.encode(inputs([4, 5, 6]))["mean"]
    engine.encode(inputs([9]))
    assert np.array_equal(*kept)


def test_more_candidates_than_the_largest_shape_run_plainly(engine: OnnxEngine) -> None:
    state = engine.encode(inputs([4, 5, 6]))
    many = [1 + place % 20 for place in range(LARGEST + 1)]
    assert np.allclose(score(engine, state, *many), MODEL.expected([4, 5, 6], many), atol=1e-6)


def test_golden_scores_hold_and_a_failed_run_leaves_the_next_one_alone(engine: OnnxEngine) -> None:
    with pytest.raises(EngineError, match="encode: "):
        engine.encode(inputs([1_000]))
    assert np.allclose(score(engine, engine.encode(inputs([2])), 1), MODEL.expected([2], [1]), atol=1e-6)
    assert engine.verify_golden() < 1e-6


def test_capturing_nothing_goes_back_to_plain_runs(engine: OnnxEngine) -> None:
    assert engine.capture([]) == ()
    assert not isinstance(engine.encode(inputs([4])), ShapedState)


def test_an_engine_without_a_device_and_a_graph_with_an_open_dimension_capture_nothing(bundle: Bundle) -> None:
    assert OnnxEngine(bundle, "cpu").capture([1, 4]) == ()
    engine = OnnxEngine(bundle, "cpu", binds=True)
    spec = bundle.manifest.encode.outputs[-1]
    outputs = (*bundle.manifest.encode.outputs[:-1], spec.model_copy(update={"shape": ("B", "K")}))
    encode = bundle.manifest.encode.model_copy(update={"outputs": outputs})
    engine._bundle = dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"encode": encode}))
    assert engine.capture([1, 4]) == ()


def test_on_the_cpu_nothing_is_captured_by_itself(bundle: Bundle) -> None:
    engine = OnnxEngine(bundle, "cpu", binds=True)
    assert engine.capture_where_it_wins([1, 4]) == ()
    assert not isinstance(engine.encode(inputs([4])), ShapedState)


def test_threads_share_the_shapes(engine: OnnxEngine) -> None:
    wrong: list[int] = []

    def work(item: int) -> None:
        for _ in range(50):
            found = score(engine, engine.encode(inputs([item])), 1, 2, 3)
            if not np.allclose(found, MODEL.expected([item], [1, 2, 3]), atol=1e-6):
                wrong.append(item)

    threads = [Thread(target=work, args=(item,)) for item in (5, 9, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
