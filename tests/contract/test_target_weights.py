"""An exported model with several targets: torch and the service agree under any weights, for new items too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from contract.bundle.manifest import read_manifest
from exporter.errors import ExportError
from exporter.export import export_run
from models.base import Scored, Tensors
from models.checkpoint import load_checkpoint
from models.parts.targets import WEIGHTS
from models.pyramid_mixer import PyramidMixer
from service.bundles.bundle import load_bundle
from service.inference.engine import OnnxEngine
from service.inference.inputs import RankRow
from service.inference.new_items import NewItem
from service.inference.scorer import Inference, ScoredRow
from service.inference.state_cache import StateCache
from tests.contract.conftest import GENRES, YEARS
from tests.support.builders import behaviours
from tests.unit.exporter.fake_runs import config_of, write_run

pytestmark = [pytest.mark.onnx, pytest.mark.usefixtures("operators_read_once")]

TARGETS = {"click": {"score": 1.0}, "like": {"score": 0.5}, "finish": {"score": 0.0}}
CONFIG = config_of("pyramid_mixer") | {
    "length": 4, "scales": 2, "side": ["genres", "year"], "head": "ranking", "id_dropout": 0.2, "targets": TARGETS,
}  # fmt: skip
HISTORIES = (["film-1", "film-7"], ["film-9"], ["film-3", "film-2", "film-5"])
WEIGHINGS = ((3.0, -1.0, 0.25), None, (0.0, 4.0, 1.0))
CANDIDATES = np.array([3, 9, 20, 1, 44], dtype=np.int64)


def run_of(directory: Path) -> Path:
    run = write_run(directory, "pyramid_mixer", CONFIG)
    described = {
        "genres": {"cardinality": 6, "width": 3, "names": ["", *GENRES]},
        "year": {"cardinality": 11, "width": 1, "names": ["", *YEARS]},
    }
    (run / "features.json").write_text(json.dumps(described))
    return run


@pytest.mark.slow
def test_torch_and_the_service_agree_under_the_weights_of_each_row(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    exported = export_run(run, tmp_path / "bundles").bundle
    manifest = read_manifest(exported)
    assert manifest.targets == {name: one["score"] for name, one in TARGETS.items()}
    assert manifest.contract_version == 4
    assert "other weights: 1 click, 0.5 like, 0 finish." in (exported / "model_card.md").read_text()
    bundle = load_bundle(exported, max_bytes=1 << 30)
    engine = OnnxEngine(bundle, "cpu", threads=1)
    engine.verify_golden()
    assert bundle.new_items is not None
    new = [NewItem.of(bundle.new_items.coder.codes({"genres": "genre 2", "year": 1995}).values())]
    rows = [
        RankRow(f"user-{place}", behaviours(history), CANDIDATES, 0, True, new=new, weights=weights)
        for place, (history, weights) in enumerate(zip(HISTORIES, WEIGHINGS, strict=True), start=1)
    ]
    inference = Inference(bundle, engine, StateCache(1 << 20))
    results = inference.run(rows)
    arrays = inference._maker.of(inference._maker.make(rows), range(len(rows))).arrays

    _, model = load_checkpoint(run / "checkpoint")
    own = tuple(manifest.targets.values())
    with torch.no_grad():
        state = model.encode({name: torch.from_numpy(values) for name, values in arrays.items()}).state
        state[WEIGHTS] = torch.tensor([weights or own for weights in WEIGHINGS])
        codes = zip(model.described_by, map(torch.from_numpy, new[0].codes), strict=True)
        vectors = model.describe({name: one[None] for name, one in codes})
        for place, result in enumerate(results):
            assert isinstance(result, ScoredRow)
            among = torch.full((len(CANDIDATES),), place)
            expected = model.score(state, torch.from_numpy(CANDIDATES), among)
            np.testing.assert_allclose(result.scores, expected.scores, atol=1e-4)
            for name in TARGETS:
                np.testing.assert_allclose(result.explanation[name], expected.explanation[name], atol=1e-4)
            fresh = model.score_new(state, vectors.candidates, torch.tensor([place])).scores
            np.testing.assert_allclose(result.new_scores, fresh, atol=1e-4)


@pytest.mark.slow
def test_a_model_whose_score_is_not_the_weighted_sum_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = PyramidMixer.score

    def squared(self: PyramidMixer, state: Tensors, candidates: torch.Tensor, rows: torch.Tensor) -> Scored:
        scored = plain(self, state, candidates, rows)
        return scored._replace(scores=scored.scores**2)

    monkeypatch.setattr(PyramidMixer, "score", squared)
    config = CONFIG | {"side": [], "id_dropout": 0.0}
    with pytest.raises(ExportError, match=r"targets: the scores differ by .* from the weighted sum"):
        export_run(write_run(tmp_path / "run", "pyramid_mixer", config), tmp_path / "bundles")
