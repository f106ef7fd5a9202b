from __future__ import annotations

from pathlib import Path

from training.fitting.fit import Epoch
from training.recipe import parse_recipe
from training.reporting.curves import Curves, figure_of
from training.reporting.reporter import Training

RECIPE = parse_recipe({"dataset": "small", "model": "bpr"}, "test")


def _epochs(scores: list[float | None]) -> list[Epoch]:
    best = max((score for score in scores if score is not None), default=None)
    return [Epoch(at, 2.0 / at, score, score == best, 10.0) for at, score in enumerate(scores, start=1)]


def test_the_picture_names_run_axes_and_the_chosen_epoch(tmp_path: Path) -> None:
    figure = figure_of(_epochs([0.1, 0.3, 0.2]), Training(tmp_path / "run-7", RECIPE, "unseen.ndcg@10"))
    loss, valid = figure.axes
    assert "bpr on small" in figure.get_suptitle()
    assert "run-7" in {text.get_text() for text in figure.texts}
    assert loss.get_title("left") == "training loss, mean per row"
    assert loss.get_title("right") == "chosen: epoch 2, validation 0.3000"
    assert valid.get_title("left") == "validation: NDCG@10, seen items ruled out"
    assert valid.get_xlabel() == "epoch"
    assert [list(line.get_xdata()) for line in valid.lines] == [[1, 2, 3], [2, 2], [2]]


def test_a_fit_without_validation_has_the_loss_only(tmp_path: Path) -> None:
    (loss,) = figure_of(_epochs([None, None]), Training(tmp_path, RECIPE, "")).axes
    assert loss.get_xlabel() == "epoch"


def test_one_epoch_has_no_curve(tmp_path: Path) -> None:
    curves = Curves()
    curves.begin(Training(tmp_path, RECIPE, "ndcg@10"))
    curves.epoch(_epochs([0.1]))
    curves.end("finished", {})
    assert list(tmp_path.iterdir()) == []
