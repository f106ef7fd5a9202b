"""A command line that cannot write: one line, status 1, and no half-made folder."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import catalogue
from benchmarks.recbole import atomic
from benchmarks.tables import __main__ as tables
from deploy import experiments
from deploy.compose import bootstrap
from deploy.dashboards import __main__ as dashboards
from exporter import __main__ as exporter
from tests.support.command_lines import World, with_arguments
from training import __main__ as training

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.usefixtures("operators_read_once")
@pytest.mark.parametrize(
    "command", ["prepare", "train", "export", "experiments", "tables", "bootstrap", "atomic", "catalogue"]
)
def test_a_place_that_cannot_be_written_is_one_line(world: World, command: str, refused: Callable[..., str]) -> None:
    out = world.folder / "a file"
    out.write_text("x")
    plan = world.folder / "ml-100k.toml"
    shutil.copy(ROOT / "benchmarks" / "tables" / "ml-100k.toml", plan)
    lines: dict[str, tuple[object, ...]] = {
        "prepare": (training.main, "prepare", "generated", "--out", out),
        "train": (training.main, "train", world.recipe, "--data", world.data, "--out", out),
        "export": (exporter.main, world.run, "--out", out),
        "experiments": (experiments.main, out / "experiments.yaml"),
        "tables": (tables.main, plan, "--show", "--results", out),
        "bootstrap": (bootstrap.main, "behaviours", "--work", out),
        "atomic": (with_arguments(atomic.main), "--data", world.data, "--dataset", "small", "--out", out),
        "catalogue": (catalogue.main, "--recipe", world.recipe, "--items", "9", "--out", out),
    }
    assert "a file" in refused(*lines[command])
    assert out.read_text() == "x"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["prepare", "train"])
def test_a_disk_that_fills_is_one_line_and_leaves_no_folder(world: World, command: str) -> None:
    """A limit on the size of files ends a write as a full disk does, in the middle of it."""
    out = world.folder / "out"
    lines: dict[str, list[object]] = {
        "prepare": ["prepare", "generated", "--out", out],
        "train": ["train", world.recipe, "--data", world.data, "--out", out, "--device", "cpu"],
    }
    ended = subprocess.run(
        [sys.executable, "-m", "training", *map(str, lines[command])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000)),
    )
    assert ended.returncode == 1
    assert "File too large" in ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert not any(out.rglob("*"))


def test_dashboards_that_cannot_be_written_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(dashboards, "FOLDER", tmp_path / "file")
    assert "file" in refused(dashboards.main)
