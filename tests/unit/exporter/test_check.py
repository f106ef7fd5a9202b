"""`python -m exporter.check RECIPE`: a line for each promise, and a status."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.check import main, read_subject
from exporter.errors import ExportError
from models.checks.every import CHECKS, run_checks

RECIPES = Path(__file__).resolve().parents[3] / "training" / "recipes" / "ml-100k" / "demo"


def recipe(folder: Path, model: str, config: str = "width = 16") -> Path:
    path = folder / "recipe.toml"
    name = model if model.islower() else f"tests.unit.models.faulty_models:{model}"
    path.write_text(f'dataset = "none"\nmodel = "{name}"\n[config]\n{config}\n', encoding="utf-8")
    return path


@pytest.mark.onnx
def test_a_sound_model_passes_with_one_line_for_each_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(recipe(tmp_path, "Sound"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CHECKS) + 2
    assert lines[-2] == "passed          the exported graphs have the scores of torch"
    assert lines[-1].endswith("faulty_models:Sound: 19 passed, 0 failed, 4 not applicable")


@pytest.mark.onnx
def test_a_model_that_torch_runs_and_no_export_can_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(recipe(tmp_path, "BranchesOnValues"))]) == 1
    printed = capsys.readouterr()
    failed = [line for line in printed.out.splitlines() if line.startswith("failed")]
    assert len(failed) == 1
    assert failed[0].startswith("failed          the exported graphs have the scores of torch: ExportError: encode: ")
    assert "BranchesOnValues fails 1 checks" in printed.err


@pytest.mark.parametrize(
    ("model", "config", "problem"),
    [
        ("Missing", "", "has no Missing"),
        ("Sound", "depth = 3", "unknown key 'depth'; there are fault, length, width"),
        ("sasrec", 'length = 8\nside = ["colour"]\nwidth = 15', "heads|width"),
        ("lstm", "", "no model 'lstm'"),
    ],
)
def test_a_recipe_whose_model_cannot_be_built_is_one_line(
    model: str, config: str, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=problem):
        read_subject(recipe(tmp_path, model, config))


def test_features_that_the_config_names_are_made_up(tmp_path: Path) -> None:
    path = recipe(tmp_path, "sasrec", 'length = 8\nwidth = 16\nside = ["colour"]')
    assert read_subject(path).ready.length == 8
    assert "colour" in read_subject(path).features
    assert "size" in read_subject(path, ["size"]).features


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_demo_recipe_passes(path: Path) -> None:
    assert [one for one in run_checks(read_subject(path)) if one.outcome == "failed"] == []
