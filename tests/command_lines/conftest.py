"""Good data and a good run, to be spoilt."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.command_lines import World
from training import __main__ as training
from training.data.datasets import generated
from training.data.prepare import prepare

RECIPE = 'dataset = "small"\nmodel = "popularity"\n[training]\nepochs = 0\n'


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    prepare(generated.load(users=20, items=30, events=12, seed=1), folder / "data" / "small", core=2)
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE)
    where = ["--data", str(folder / "data"), "--out", str(folder / "runs"), "--device", "cpu"]
    assert training.main(["train", str(recipe), *where]) == 0
    (facts,) = (folder / "runs").glob("*/*/*/run.json")
    return World(folder, folder / "data", facts.parent, recipe, folder / "data" / "small" / "behaviours.csv")


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """A copy that a test may spoil."""
    copy = tmp_path / "world"
    shutil.copytree(made.folder, copy)
    return World(copy, *(copy / path.relative_to(made.folder) for path in made[1:]))
