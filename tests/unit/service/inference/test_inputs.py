"""The inputs of a batch, made for the rows whose facts are not noted from an earlier batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.bundle.vocabulary import Vocabulary
from service.bundles.bundle import Bundle, load_bundle
from service.inference.engine import OnnxEngine
from service.inference.inputs import InputMaker, Notes, RankRow
from service.inference.scorer import Inference, ScoredRow
from service.inference.state_cache import StateCache
from tests.support.builders import TinyModel, behaviours

pytestmark = pytest.mark.onnx
CANDIDATES = np.array([1, 2, 3], dtype=np.int64)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many behaviours each search of the vocabulary was for."""
    sizes: list[int] = []
    real = Vocabulary.indices_of_keys

    def indices_of_keys(self: Vocabulary, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        sizes.append(len(keys))
        return real(self, keys)

    monkeypatch.setattr(Vocabulary, "indices_of_keys", indices_of_keys)
    return sizes


def bundle_of(folder: Path, **fields: Any) -> Bundle:
    return load_bundle(TinyModel(**fields).write(folder), max_bytes=10_000_000)


def row(history: Sequence[str], notes: Notes | None = None, **fields: Any) -> RankRow:
    return RankRow("u1", behaviours(list(history)), CANDIDATES, 5_000, notes=notes, **fields)


def test_what_is_noted_is_not_made_again(tmp_path: Path, asked: list[int]) -> None:
    maker, notes = InputMaker(bundle_of(tmp_path)), Notes()
    rows = [row(["i1", "new"], notes), row(["i2"]), row([], Notes())]
    first, again = maker.make(rows), maker.make(rows)
    assert asked == [3, 1]
    assert first.facts == again.facts
    assert again.facts[0][1:6] == (1, 0, 1, 0, 0)
    assert len(again.inputs.arrays["items"]) == 1


def test_inputs_are_those_of_the_rows_asked_for_noted_or_not(tmp_path: Path) -> None:
    maker, notes = InputMaker(bundle_of(tmp_path)), Notes()
    rows = [row(["i1"], notes), row(["i2"]), row(["i3"])]
    whole = maker.of(maker.make(rows), [0, 1, 2]).arrays["items"]
    mixed = maker.make(rows)
    for places in ([0, 1, 2], [1, 2], [2], [0]):
        assert maker.of(mixed, places).arrays["items"].tolist() == whole[places].tolist()


@pytest.mark.parametrize("reads", [{"users": 3}, {"reads_time": True}])
def test_a_model_that_reads_the_user_or_the_time_has_no_notes(tmp_path: Path, reads: dict[str, Any]) -> None:
    notes = Notes()
    InputMaker(bundle_of(tmp_path, **reads)).make([row(["i1"], notes)])
    assert notes == {}


def test_each_bundle_has_its_own_note_and_old_ones_go(tmp_path: Path) -> None:
    notes: Notes = {f"old {number}": None for number in range(20)}
    makers = [InputMaker(bundle_of(tmp_path / name, offset=number)) for number, name in enumerate("ab")]
    keys = [maker.make([row(["i1"], notes)]).facts[0].key for maker in makers]
    assert keys[0] != keys[1]
    assert len(notes) == 2


def test_a_state_that_left_the_cache_is_encoded_again_though_its_facts_are_noted(tmp_path: Path) -> None:
    bundle, model = bundle_of(tmp_path), TinyModel()
    inference = Inference(bundle, OnnxEngine(bundle, "cpu", threads=1), StateCache(1))
    notes = [Notes() for _ in range(4)]
    for _ in range(2):
        results = inference.run([row([f"i{number}"], note) for number, note in enumerate(notes, start=1)])
        for number, result in enumerate(results, start=1):
            assert isinstance(result, ScoredRow)
            assert np.allclose(result.scores, model.expected([number], [1, 2, 3]), atol=1e-6)
            assert result.used == 1
