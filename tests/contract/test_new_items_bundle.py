"""A bundle that scores items that training never met: written by the exporter, checked and run by the service."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from contract.bundle import manifest as names
from contract.bundle.item_features import FeatureError
from contract.bundle.manifest import digest_of, parse_manifest, read_manifest
from service.bundles.bundle import Bundle, BundleError, load_bundle
from service.inference.engine import EngineError, OnnxEngine
from tests.contract.conftest import PRIOR
from tests.unit.exporter.fake_runs import ITEMS

pytestmark = [pytest.mark.onnx, pytest.mark.usefixtures("operators_read_once")]


@pytest.fixture
def directory(new_items_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(new_items_bundle, tmp_path / "fmlp" / "1"))


def load(directory: Path) -> Bundle:
    return load_bundle(directory, max_bytes=1 << 30)


def seal(directory: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
    """Make the manifest agree with the files, and change it."""
    path = directory / names.MANIFEST
    document = json.loads(path.read_bytes())
    document["files"] = {name: digest_of((directory / name).read_bytes()) for name in document["files"]}
    change(document)
    path.write_text(json.dumps(document))


def test_manifest_describes_graphs_features_and_prior(new_items_bundle: Path) -> None:
    manifest = read_manifest(new_items_bundle)
    assert manifest.contract_version == 3
    assert {*names.NEW_ITEM_FILES} <= set(manifest.files)
    assert manifest.new_item_prior is not None
    assert manifest.new_item_prior.model_dump() == PRIOR
    assert manifest.new_items is not None
    assert [(one.name, one.kind, one.values) for one in manifest.new_items.features] == [
        ("genres", "list", 3), ("year", "category", 1)
    ]  # fmt: skip
    assert parse_manifest((new_items_bundle / names.MANIFEST).read_bytes()) == manifest


def test_the_model_card_tells_how_new_items_are_scored(new_items_bundle: Path) -> None:
    card = (new_items_bundle / names.MODEL_CARD).read_text()
    assert "An item that is not in the vocabulary is scored and read by its features" in card
    assert "cannot be scored" not in card


def test_one_item_table_serves_histories_with_and_without_new_items(new_items_bundle: Path) -> None:
    tables = read_manifest(new_items_bundle).tables
    readers = {graph for table in tables for graph in table.graphs if table.shape[0] == ITEMS + 1}
    assert {"encode", "encode_new"} <= readers


def test_service_gets_the_golden_scores_of_new_items(directory: Path) -> None:
    engine = OnnxEngine(load(directory), "cpu", threads=1)
    assert engine.new_items is not None
    assert engine.verify_golden() >= engine.new_items.verify_golden() >= 0


def test_raw_features_of_a_new_item_become_its_score(directory: Path) -> None:
    bundle = load(directory)
    engine = OnnxEngine(bundle, "cpu", threads=1)
    assert bundle.new_items is not None
    assert engine.new_items is not None
    coder = bundle.new_items.coder
    scores = {}
    for title, features in (
        ("two genres", {"genres": ["genre 2", "genre 4"], "year": 1995}),
        ("the same", {"year": "1995", "genres": ["genre 2", "never met", "genre 4"]}),
        ("another year", {"genres": ["genre 2", "genre 4"], "year": "2000"}),
        ("nothing", {}),
    ):
        codes = coder.codes(features)
        described = engine.new_items.describe({f"feature_{k}": code[None] for k, code in enumerate(codes.values())})
        inputs = {name: bundle.golden[f"encode.{name}"] for name in bundle.manifest.sequence.names}
        state = engine.encode(inputs)
        rows = np.array([len(inputs["items"]) - 1])
        scores[title] = float(engine.new_items.score(state, described.candidates, rows)["scores"][0])
    assert scores["two genres"] == scores["the same"]
    assert len(set(scores.values())) == 3
    with pytest.raises(FeatureError, match="colour"):
        coder.codes({"colour": "red"})


def test_a_history_without_new_items_has_the_state_that_encode_gives(directory: Path) -> None:
    bundle = load(directory)
    engine = OnnxEngine(bundle, "cpu", threads=1)
    assert engine.new_items is not None
    inputs = {name: bundle.golden[f"encode.{name}"] for name in bundle.manifest.sequence.names}
    width = bundle.manifest.new_items.encode.inputs[-1].shape[1]  # type: ignore[union-attr]
    unused = np.full((1, int(width)), 5.0, dtype=np.float32)
    for name, expected in engine.encode(inputs).items():
        np.testing.assert_allclose(engine.new_items.encode(inputs, unused)[name], expected, atol=1e-5)


@pytest.mark.parametrize("name", names.NEW_ITEM_FILES)
def test_a_missing_or_altered_file_is_refused_and_named(directory: Path, name: str) -> None:
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=name):
        load(directory)
    seal(directory, lambda document: document["files"].pop(name))
    (directory / name).unlink()
    with pytest.raises(BundleError, match=name):
        load(directory)


@pytest.mark.parametrize("name", [names.ITEM, names.ENCODE_NEW, names.SCORE_NEW])
def test_a_hostile_graph_is_refused(directory: Path, name: str) -> None:
    proto = onnx.load(directory / name)
    proto.graph.node[0].domain = "evil"
    (directory / name).write_bytes(proto.SerializeToString())
    seal(directory)
    with pytest.raises(BundleError, match=rf"{name}: .*evil"):
        load(directory)


def test_a_graph_that_gives_other_scores_is_refused_by_the_golden_rows(directory: Path) -> None:
    proto = onnx.load(directory / names.ITEM)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor) * 1.1
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
    (directory / names.ITEM).write_bytes(proto.SerializeToString())
    seal(directory)
    engine = OnnxEngine(load(directory), "cpu", threads=1)
    with pytest.raises(EngineError, match="new items differ"):
        engine.verify_golden()


def test_a_graph_with_other_inputs_than_its_manifest_is_refused(directory: Path) -> None:
    (directory / names.SCORE_NEW).write_bytes((directory / names.SCORE).read_bytes())
    seal(directory)
    with pytest.raises(EngineError, match="score_new: its inputs"):
        OnnxEngine(load(directory), "cpu", threads=1)


def wider_history(document: dict[str, Any]) -> None:
    document["new_items"]["encode"]["inputs"][-1]["shape"][1] += 1


def fewer_names(document: dict[str, Any]) -> None:
    document["new_items"]["features"][0]["cardinality"] += 1


def another_feature_order(document: dict[str, Any]) -> None:
    document["new_items"]["features"].reverse()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (wider_history, "encode inputs"),
        (fewer_names, "features.json"),
        (another_feature_order, "item does not take"),
        (lambda document: document.update(contract_version=2), "contract version 2"),
        (lambda document: document.pop("new_items"), "unknown file"),
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_fit_is_refused(
    directory: Path, change: Callable[[dict[str, Any]], None], problem: str
) -> None:
    seal(directory, change)
    with pytest.raises(BundleError, match=problem):
        load(directory)


def test_an_index_out_of_range_in_the_golden_rows_is_refused(directory: Path) -> None:
    golden = dict(np.load(directory / names.GOLDEN))
    golden["new.items"] = golden["new.items"] + 1_000
    np.savez(directory / names.GOLDEN, **golden)
    seal(directory)
    with pytest.raises(BundleError, match="out of range"):
        load(directory)


def test_a_bundle_with_only_a_prior_needs_the_newest_contract_and_no_graphs(directory: Path) -> None:
    def only_prior(document: dict[str, Any]) -> None:
        del document["new_items"]
        for name in names.NEW_ITEM_FILES:
            del document["files"][name]
            (directory / name).unlink()
        document["tables"] = [
            one | {"graphs": [g for g in one["graphs"] if g in ("encode", "score")]} for one in document["tables"]
        ]
        document["tables"] = [one for one in document["tables"] if one["graphs"]]
        kept = {f"{one['name']}.npy" for one in document["tables"]}
        for name in [name for name in document["files"] if name.startswith("table_") and name not in kept]:
            del document["files"][name]
            (directory / name).unlink()

    golden = {
        name: values for name, values in np.load(directory / names.GOLDEN).items() if name[:4] not in ("new.", "item")
    }
    np.savez(directory / names.GOLDEN, **golden)
    seal(directory, only_prior)
    bundle = load(directory)
    assert bundle.new_items is None
    assert bundle.manifest.new_item_prior is not None
    assert OnnxEngine(bundle, "cpu", threads=1).new_items is None
