"""Bundles on disk are found by name, and a name is never a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.bundle.manifest import MANIFEST
from service.bundles.registry import BundleRegistry


def complete(root: Path, model: str, *versions: str) -> None:
    for version in versions:
        (root / model / version).mkdir(parents=True)
        (root / model / version / MANIFEST).write_text("{}")


def test_versions_are_those_that_are_complete_oldest_first(tmp_path: Path) -> None:
    complete(tmp_path, "mgnm", "10", "9", "1", "2.10", "2.9", "2")
    (tmp_path / "mgnm" / "11").mkdir()
    (tmp_path / "mgnm" / "notes.txt").write_text("")
    assert list(BundleRegistry(tmp_path).versions("mgnm")) == ["1", "2", "2.9", "2.10", "9", "10"]


def test_models_are_those_with_a_complete_version(tmp_path: Path) -> None:
    complete(tmp_path, "mgnm", "1")
    complete(tmp_path, "Not-A-Model", "1")
    (tmp_path / "empty").mkdir()
    assert BundleRegistry(tmp_path).models() == ["mgnm"]


def test_a_root_that_does_not_exist_holds_nothing(tmp_path: Path) -> None:
    registry = BundleRegistry(tmp_path / "nowhere")
    assert registry.models() == []
    assert list(registry.versions("mgnm")) == []


@pytest.mark.parametrize("model", ["..", "../secret", "/etc", "", "a/b", "mgnm\n", "m" * 100])
def test_a_name_that_is_a_path_finds_nothing(tmp_path: Path, model: str) -> None:
    complete(tmp_path, "secret", "1")
    registry = BundleRegistry(tmp_path / "secret")
    assert list(registry.versions(model)) == []
    assert registry.directory(model, "1") is None
    assert registry.directory("mgnm", model) is None or model == "mgnm"


def test_a_bundle_stands_below_its_model_and_version(tmp_path: Path) -> None:
    assert BundleRegistry(tmp_path).directory("mgnm", "2.9") == tmp_path / "mgnm" / "2.9"
