"""A made-up catalogue is a bundle like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.catalogue import main, write_catalogue
from contract.bundle.manifest import POPULARITY, read_manifest
from contract.command_line import CommandError
from training.recipe import parse_recipe

POPULARITY_ONLY = parse_recipe({"dataset": "made-up", "model": "popularity"}, "test")


@pytest.mark.slow
@pytest.mark.onnx
@pytest.mark.usefixtures("operators_read_once")
def test_bundle_has_as_many_items_as_asked_for(tmp_path: Path) -> None:
    bundle = write_catalogue(POPULARITY_ONLY, 300_000, tmp_path)
    manifest = read_manifest(bundle)
    assert bundle == tmp_path / "popularity" / "300000"
    assert manifest.item_count == 300_000
    assert [table.shape for table in manifest.tables] == [(300_001,)]  # over 1 MiB
    counts = np.load(bundle / POPULARITY)
    assert counts[0] == 0
    assert (np.diff(counts[1:]) <= 0).all()


def test_model_that_reads_users_or_features_is_refused(tmp_path: Path) -> None:
    for model, config in (("bpr", {}), ("sasrec", {"side": ["genres"]})):
        recipe = parse_recipe({"dataset": "made-up", "model": model, "config": config}, "test")
        with pytest.raises(CommandError, match=model):
            write_catalogue(recipe, 9, tmp_path)
    assert not any(tmp_path.iterdir())


def test_number_of_items_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--items", "0", "--out", str(tmp_path)]) == 1
    assert "--items 0" in capsys.readouterr().err
