"""A command line that gets damaged data or a damaged run: one line, status 1, and no half-made folder."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from exporter import __main__ as exporter
from tests.support.command_lines import World, spoilt
from training import __main__ as training


@pytest.mark.parametrize("kind", ["missing", "empty", "binary", "a folder"])
@pytest.mark.parametrize(
    "name", ["interactions.npz", "items.json", "users.json", "features.npz", "features.json", "catalogue.json",
             "provenance.json"]
)  # fmt: skip
def test_prepared_data_that_are_damaged_are_named(
    world: World, name: str, kind: str, refused: Callable[..., str]
) -> None:
    spoilt(world.data / "small" / name, kind)
    out = world.folder / "out"
    assert "small" in refused(training.main, "train", world.recipe, "--data", world.data, "--out", out)
    assert not any(out.rglob("*"))


@pytest.mark.parametrize("kind", ["missing", "empty", "binary", "a folder"])
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("evaluate", "recipe.json"),
        ("evaluate", "run.json"),
        ("evaluate", "checkpoint/weights.pt"),
        ("evaluate", "checkpoint/model.json"),
        ("evaluate", "checkpoint/facts.npz"),
        ("fit-all", "recipe.json"),
        ("fit-all", "run.json"),
        ("fit-all", "metrics.json"),
        ("from", "recipe.json"),
        ("from", "run.json"),
        ("from", "items.json"),
        ("from", "features.json"),
        ("from", "checkpoint/weights.pt"),
        ("compare", "run.json"),
        ("compare", "metrics.json"),
        ("compare", "per_query.npz"),
        ("export", "recipe.json"),
        ("export", "run.json"),
        ("export", "items.json"),
        ("export", "popularity.npy"),
        ("export", "checkpoint/weights.pt"),
        ("export", "checkpoint/model.json"),
        ("export", "checkpoint/facts.npz"),
    ],
)
def test_a_run_with_a_damaged_file_is_one_line(
    world: World, command: str, name: str, kind: str, refused: Callable[..., str]
) -> None:
    spoilt(world.run / name, kind)
    lines: dict[str, tuple[object, ...]] = {
        "evaluate": (training.main, "evaluate", world.run, "--data", world.data),
        "compare": (training.main, "compare", world.run),
        "fit-all": (training.main, "fit-all", world.run, "--data", world.data, "--out", world.folder / "runs"),
        "from": (training.main, "train", "--from", world.run, "--data", world.data, "--out", world.folder / "runs"),
        "export": (exporter.main, world.run, "--out", world.folder / "out"),
    }
    refused(*lines[command])
    assert not (world.folder / "out").exists()
