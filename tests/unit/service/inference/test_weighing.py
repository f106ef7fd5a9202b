"""Rows of one batch, each with weights of its own, share a run and the cached states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.bundle.manifest import read_manifest
from service.bundles.bundle import BundleError, load_bundle
from service.inference.engine import OnnxEngine
from service.inference.inputs import RankRow
from service.inference.scorer import Inference, ScoredRow
from service.inference.state_cache import StateCache
from service.inference.weighing import Weights
from tests.support.builders import TinyModel, behaviours

pytestmark = pytest.mark.onnx

MODEL = TinyModel(targets=True, slope=50.0)  # the order of items is that of their bias
CANDIDATES = np.array([3, 9, 20, 1], dtype=np.int64)


@pytest.fixture
def inference(tmp_path: Path) -> Inference:
    bundle = load_bundle(MODEL.write(tmp_path), max_bytes=1 << 30)
    return Inference(bundle, OnnxEngine(bundle, "cpu", threads=1), StateCache(1 << 20))


def row(weights: Weights | None, *, explain: bool = False, user: str = "u1") -> RankRow:
    history = {"u1": ["i1", "i2"], "u2": ["i5"]}[user]
    return RankRow(user, behaviours(history), CANDIDATES, 0, explain, weights=weights)


def scores_of(inference: Inference, rows: list[RankRow]) -> list[NDArray[np.float32]]:
    found = inference.run(rows)
    scores = []
    for one in found:
        assert isinstance(one, ScoredRow)
        scores.append(one.scores)
    return scores


def test_each_row_has_the_scores_of_its_weights(inference: Inference) -> None:
    click, like = MODEL.expected([1, 2], CANDIDATES.tolist()), -MODEL.bias[CANDIDATES]
    plain, both, liked, other = scores_of(
        inference, [row(None), row((0.5, 2.0)), row((0.0, 1.0)), row((0.0, 1.0), user="u2")]
    )
    np.testing.assert_allclose(plain, click, rtol=1e-6)
    np.testing.assert_allclose(both, 0.5 * click + 2 * like, rtol=1e-5)
    np.testing.assert_allclose(liked, like, rtol=1e-6)
    assert np.array_equal(liked, other)
    assert liked.argsort().tolist() == plain.argsort()[::-1].tolist()


def test_neighbours_with_other_weights_change_nothing_to_the_bit(inference: Inference) -> None:
    single = scores_of(inference, [row((0.3, 0.7))])[0]
    beside = scores_of(inference, [row(None), row((0.3, 0.7)), row((9.0, 1.0), user="u2")])[1]
    assert np.array_equal(single, beside)
    assert np.array_equal(scores_of(inference, [row(None)])[0], scores_of(inference, [row(None), row((0.3, 0.7))])[0])


def test_one_state_serves_rows_with_different_weights(inference: Inference) -> None:
    first, second = inference.run([row(None)])[0], inference.run([row((0.0, 1.0))])[0]
    assert isinstance(first, ScoredRow)
    assert isinstance(second, ScoredRow)
    assert (first.state_hit, second.state_hit) == (False, True)


def test_explain_shows_the_score_of_each_target(inference: Inference) -> None:
    found = inference.run([row((0.0, 1.0), explain=True)])[0]
    assert isinstance(found, ScoredRow)
    np.testing.assert_allclose(found.explanation["like"], found.scores)
    np.testing.assert_allclose(found.explanation["click"], MODEL.expected([1, 2], CANDIDATES.tolist()), rtol=1e-6)


def test_the_manifest_names_the_targets_of_only_such_a_bundle(tmp_path: Path) -> None:
    with_targets, plain = MODEL.write(tmp_path / "a"), TinyModel().write(tmp_path / "b")
    assert read_manifest(with_targets).targets == {"click": 1.0, "like": 0.0}
    assert read_manifest(with_targets).contract_version == 4
    assert b"targets" not in (plain / "manifest.json").read_bytes()
    assert read_manifest(plain).contract_version == 1


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (b'"like": 0.0', b'"share": 0.0', "target share is not an explanation of score"),
        (b'"like": 0.0', b'"level": 0.0', "target level"),
        (b'"like": 0.0', b'"period_weights": 0.0', "target period_weights is not an explanation of score"),
        (b'"like": 0.0', b'"like": NaN', "targets.like"),
        (b'"contract_version": 4', b'"contract_version": 3', "contract version 3"),
    ],
)
def test_targets_that_the_graph_does_not_have_are_refused(
    before: bytes, after: bytes, problem: str, tmp_path: Path
) -> None:
    path = MODEL.write(tmp_path) / "manifest.json"
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, after))
    with pytest.raises(BundleError, match=problem):
        load_bundle(path.parent, max_bytes=1 << 30)
