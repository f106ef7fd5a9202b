"""The check of a GPU runs here with the CPU as the device: it finds differences, and reports missing CUDA."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks import gpu
from contract.command_line import CommandError
from service.bundles.bundle import load_bundle
from service.inference.engine import OnnxEngine
from tests.support.builders import TinyModel

pytestmark = pytest.mark.onnx


def test_a_device_that_gives_the_same_scores_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "_SIZES", (1, 3))
    directory, out = TinyModel(tabled=True).write(tmp_path), tmp_path / "out.json"
    assert gpu.main([str(directory), "--device", "cpu", "--seconds", "0.01", "--out", str(out)]) == 0
    assert "captured: within" in capsys.readouterr().out
    (found,) = json.loads(out.read_text())["bundles"]
    assert found["provider"] == "cpu"
    assert [(one["users"], one["way"]) for one in found["speeds"]] == [
        (1, "bound"), (1, "captured"), (3, "bound"), (3, "captured")
    ]  # fmt: skip
    for one in found["speeds"]:
        assert one["candidates_per_second"] == pytest.approx(200 * one["users_per_second"])


def test_a_device_that_gives_other_scores_is_refused(tmp_path: Path) -> None:
    bundle = load_bundle(TinyModel().write(tmp_path), max_bytes=10_000_000)
    other = TinyModel(offset=0.01).score_graph().SerializeToString()
    engine = OnnxEngine(dataclasses.replace(bundle, score_model=other), "cpu", binds=True)
    with pytest.raises(CommandError, match=r"tiny@1: scores differ by 0\.01 from the CPU's, allowed 0\.0001"):
        gpu.compare(bundle, engine)


def test_without_cuda_one_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "CUDAExecutionProvider" in _devices():
        pytest.skip("this machine has a CUDA device")
    assert gpu.main([str(TinyModel().write(tmp_path))]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "provider cuda was asked for, but ONNX Runtime runs on the CPU" in said


def _devices() -> set[str]:
    import onnxruntime

    return {device.ep_name for device in onnxruntime.get_ep_devices()}
