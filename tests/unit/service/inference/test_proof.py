"""How many threads a run gets: one, unless the model is slow with one and much faster with more."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from service.bundles.bundle import Bundle, load_bundle
from service.inference import proof
from service.inference.engine import EngineError, OnnxEngine
from service.inference.proof import ProofRequest, prove
from tests.support.builders import TinyModel

pytestmark = pytest.mark.onnx

BUDGET = 0.2


def request(directory: Path, threads: int = 0) -> ProofRequest:
    return ProofRequest(
        directory=str(directory), max_bundle_bytes=10_000_000, provider="cpu", threads=threads, max_candidates=100,
        max_rows=2, max_batch_candidates=200, budget_seconds=BUDGET, memory_bytes=2**30, limit_seconds=60.0,
    )  # fmt: skip


def takes(monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> list[int]:
    """Let the largest request take so long by number of threads, on 6 processors; return the numbers tried."""
    tried: list[int] = []

    def best(engine: OnnxEngine, _bundle: Bundle, rows: int, _candidates: int, _aim: float) -> float:
        if rows == 1:
            tried.append(engine.threads)
        return seconds[engine.threads]

    monkeypatch.setattr(proof, "available_cpus", lambda: 6)
    monkeypatch.setattr(proof, "_best", best)
    return tried


@pytest.mark.parametrize(
    ("seconds", "tried", "chosen"),
    [
        ({1: 0.05}, [1], 1),
        ({1: 0.12, 2: 0.11}, [1, 2], 1),
        ({1: 0.12, 2: 0.07, 4: 0.04}, [1, 2, 4], 4),
        ({1: 0.19, 2: 0.11, 4: 0.07, 6: 0.06}, [1, 2, 4, 6], 4),
        ({1: 0.60, 2: 0.35, 4: 0.19, 6: 0.12}, [1, 2, 4, 6], 6),
    ],
    ids=["fast with one", "no faster with two", "fast with four", "six are not worth it", "slow without six"],
)
def test_threads_are_as_few_as_the_largest_request_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], tried: list[int], chosen: int
) -> None:
    counted = takes(monkeypatch, seconds)
    found = prove(request(TinyModel().write(tmp_path)))
    assert (counted, found.threads, found.request_seconds) == (tried, chosen, seconds[chosen])


def test_a_number_that_is_set_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = takes(monkeypatch, {3: 0.19})
    assert prove(request(TinyModel().write(tmp_path), threads=3)).threads == 3
    assert counted == [3]


def test_a_request_that_all_threads_leave_slow_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    takes(monkeypatch, {1: 0.9, 2: 0.5, 4: 0.3, 6: 0.29})
    with pytest.raises(EngineError, match=r"too slow: the largest request takes 0\.300 s, allowed 0\.200 s"):
        prove(request(TinyModel().write(tmp_path)))


def test_a_small_model_gets_one_thread(tmp_path: Path) -> None:
    directory = TinyModel().write(tmp_path)
    assert prove(request(directory)).threads == 1
    assert OnnxEngine(load_bundle(directory, max_bytes=10_000_000), "cpu").threads == 1


def test_a_wait_for_a_core_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread is measured in processor time; with more than one, or on a GPU, there is only the clock."""
    score = OnnxEngine.score

    def late(*arguments: Any) -> Any:
        time.sleep(0.05)
        return score(*arguments)

    monkeypatch.setattr(OnnxEngine, "score", late)
    directory = TinyModel().write(tmp_path)
    assert prove(request(directory, threads=1)).request_seconds < 0.05 < prove(request(directory, 2)).request_seconds
