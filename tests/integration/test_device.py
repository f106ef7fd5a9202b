"""Runs by IO binding, as on CUDA, with the CPU as the device: the same numbers, and no way through the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundles.bundle import Bundle, load_bundle
from service.errors import InferenceFailed
from service.inference.device import OnDevice
from service.inference.engine import EngineError, OnnxEngine
from service.inference.inputs import RankRow
from service.inference.scorer import Inference, ScoredRow
from service.inference.state_cache import StateCache
from tests.support.builders import TinyModel, behaviours

pytestmark = pytest.mark.onnx

MODELS = {
    "plain": TinyModel(),
    "with a table": TinyModel(tabled=True),
    "with users and times": TinyModel(tabled=True, users=3, reads_time=True),
}


def bundle_of(model: TinyModel, tmp_path: Path) -> Bundle:
    return load_bundle(model.write(tmp_path), max_bytes=10_000_000)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_of(MODELS["with a table"], tmp_path)


def rows() -> list[RankRow]:
    histories = [["i1", "i2"], [], ["i3"], ["i1", "i2"]]
    return [
        RankRow(f"u{place}", behaviours(ids), np.array([3, 4, 1 + place], dtype=np.int64), 5_000, explain=True)
        for place, ids in enumerate(histories)
    ]


def same(one: ScoredRow | Exception, other: ScoredRow | Exception) -> bool:
    assert isinstance(one, ScoredRow)
    assert isinstance(other, ScoredRow)
    return bool(
        np.array_equal(one.scores, other.scores)
        and one.state_hit == other.state_hit
        and one.explanation.keys() == other.explanation.keys()
        and all(np.array_equal(one.explanation[name], other.explanation[name]) for name in one.explanation)
    )


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_bound_runs_give_the_same_answers_with_fresh_mixed_and_cached_states(tmp_path: Path, model: TinyModel) -> None:
    bundle = bundle_of(model, tmp_path)
    plain, bound = (
        Inference(bundle, OnnxEngine(bundle, "cpu", binds=binds), StateCache(100)) for binds in (False, True)
    )
    asked = rows()
    for batch in (asked[:2], asked, asked):  # fresh; two of them known; all known
        assert all(same(one, other) for one, other in zip(plain.run(batch), bound.run(batch), strict=True))


def test_golden_scores_and_warm_up_hold(bundle: Bundle) -> None:
    engine = OnnxEngine(bundle, "cpu", binds=True)
    assert engine.verify_golden() < 1e-6
    engine.warm_up([1, 8], candidates=5)


def test_a_state_goes_from_encode_to_score_without_being_read(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, read = OnnxEngine(bundle, "cpu", binds=True), list[str]()
    take = OnDevice.__getitem__

    def noted(self: OnDevice, name: str) -> Any:
        read.append(name)
        return take(self, name)

    monkeypatch.setattr(OnDevice, "__getitem__", noted)
    encoded = engine.encode({"items": np.array([[0, 0, 4, 5, 6]])})
    scored = engine.score(encoded, np.array([1, 2]), np.array([0, 0]))
    assert read == []
    assert isinstance(encoded, OnDevice)
    assert encoded.leading("mean") == 1
    assert np.allclose(scored["scores"], TinyModel().expected([4, 5, 6], [1, 2]), atol=1e-6)
    assert read == ["scores"]


def test_a_batch_of_new_users_is_read_only_after_it_was_scored(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, read = OnnxEngine(bundle, "cpu", binds=True), list[str]()
    take, score = OnDevice.__getitem__, OnnxEngine.score

    def noted(self: OnDevice, name: str) -> Any:
        read.append(name)
        return take(self, name)

    def scored(self: OnnxEngine, *arguments: Any) -> Any:
        assert read == []
        return score(self, *arguments)

    monkeypatch.setattr(OnDevice, "__getitem__", noted)
    monkeypatch.setattr(OnnxEngine, "score", scored)
    found = Inference(bundle, engine, StateCache(100)).run(rows())
    assert all(isinstance(row, ScoredRow) for row in found)
    assert "mean" in read  # for the cache


def test_both_graphs_have_one_copy_of_a_table_and_on_the_cpu_it_is_the_mapped_file(bundle: Bundle) -> None:
    engine = OnnxEngine(bundle, "cpu", binds=True)
    encode, score = (engine._bound[graph].tables["table_0"] for graph in ("encode", "score"))  # type: ignore[index]
    assert encode is score
    assert encode.data_ptr() == bundle.tables.arrays["table_0"].ctypes.data


def test_a_failed_run_is_an_engine_error_and_the_next_one_works(bundle: Bundle) -> None:
    engine = OnnxEngine(bundle, "cpu", binds=True)
    with pytest.raises(EngineError, match="encode: "):
        engine.encode({"items": np.full((1, 5), 1_000)})
    assert engine.verify_golden() < 1e-6
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.verify_golden()


def test_a_device_that_fails_when_it_is_read_is_an_engine_error() -> None:
    class Lost:
        def numpy(self) -> None:
            raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")

    with pytest.raises(EngineError, match="scores: CUDA failure 700") as caught:
        _ = OnDevice({"scores": Lost()})["scores"]
    assert caught.value.fatal


def test_a_candidate_out_of_range_fails_alone(bundle: Bundle) -> None:
    asked = rows()
    asked[1] = RankRow("u1", behaviours(["i1"]), np.array([1_000], dtype=np.int64), 0)
    found = Inference(bundle, OnnxEngine(bundle, "cpu", binds=True), StateCache(100)).run(asked)
    assert [isinstance(row, InferenceFailed) for row in found] == [False, True, False, False]
