from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.base import SequentialRecommender
from models.catalog import MODELS
from training.data.prepare import Prepared
from training.fitting.fit import Epoch, Fit, Progress, TrainingFailedError
from training.judging.evaluate import Judge
from training.judging.views import means
from training.recipe import Recipe, TrainingRecipe, parse_recipe
from training.rows.loader import Loader, dataset_facts, sequence_spec
from training.rows.split import leave_last_out

SIZES: dict[str, dict[str, Any]] = {
    "sasrec": {"length": 8, "width": 8, "blocks": 1, "heads": 1, "inner": 8},
    "gru4rec": {"length": 8, "width": 8, "hidden": 8},
    "pyramid_mixer": {"length": 8, "width": 8, "scales": 2, "layers": 1, "rank_behaviour": 2, "rank_feature": 4},
    "mgnm": {"length": 8, "width": 8, "interests": 2, "rnn_width": 4, "rnn_gradient_every": 4},
}
LEARNERS = [pytest.param(name, marks=[pytest.mark.slow] * (name == "pyramid_mixer")) for name in sorted(SIZES)]


class Silent:
    """Watches nothing; may break in at a step."""

    def __init__(self, stop_at: int = -1) -> None:
        self._left = stop_at

    def start(self, epochs: int, rows: int, done: int) -> None: ...

    def step(self, rows: int, loss: float) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt

    def epoch(self, epoch: Epoch, epochs: int) -> None: ...

    def rate(self) -> float:
        return 1.0


def _recipe(model: str, **training: Any) -> Recipe:
    settings = {"epochs": 3, "rows_per_epoch": 150, "batch": 32, "learning_rate": 0.01, "negatives": 10, **training}
    document = {"dataset": "small", "model": model, "config": SIZES[model], "training": settings}
    return parse_recipe(document, "test")


def _fit(
    prepared: Prepared, recipe: Recipe, folder: Path, validate: Callable[[], float] | None = None
) -> tuple[Fit, SequentialRecommender]:
    torch.manual_seed(recipe.seed)
    facts = dataset_facts(prepared, recipe)
    model = MODELS[recipe.model].build(recipe.config, facts)
    spec, split = sequence_spec(model), leave_last_out(prepared)
    judge = Judge(prepared, spec, recipe.split, "valid", facts.item_popularity, choosing=True)
    fit = Fit(
        model,
        Loader(prepared, spec, split.train),
        recipe.training,
        recipe.seed,
        validate=validate or (lambda: means(judge(model))["ndcg@10"]),
        keep=lambda: None,
        log=lambda _: None,
        resume=folder / "resume.pt",
    )
    return fit, model


def _same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


def _results(progress: Progress) -> list[tuple[float, float]]:
    return [(epoch.loss, epoch.valid_score) for epoch in progress.epochs]


@pytest.mark.parametrize("name", LEARNERS)
def test_the_same_seed_gives_the_same_weights_twice(name: str, prepared: Prepared, tmp_path: Path) -> None:
    recipe = _recipe(name, balanced=True)
    first, one = _fit(prepared, recipe, tmp_path)
    progress = first.run(Silent())
    (tmp_path / "resume.pt").unlink()
    second, other = _fit(prepared, recipe, tmp_path)
    assert _results(second.run(Silent())) == _results(progress)
    assert _same(one, other)


def test_another_seed_gives_other_weights(prepared: Prepared, tmp_path: Path) -> None:
    recipe = _recipe("sasrec", epochs=1)
    first, one = _fit(prepared, recipe, tmp_path)
    first.run(Silent())
    (tmp_path / "resume.pt").unlink()
    second, other = _fit(prepared, recipe.model_copy(update={"seed": 1}), tmp_path)
    second.run(Silent())
    assert not _same(one, other)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_run_that_was_stopped_goes_on_to_what_an_unbroken_one_gives(
    name: str, prepared: Prepared, tmp_path: Path
) -> None:
    # 5 steps an epoch: stopped inside the second, at a step where MGNM's BiLSTM is out of its rhythm.
    recipe = _recipe(name, warm_up=0.2, schedule="linear")
    whole, one = _fit(prepared, recipe, tmp_path)
    unbroken = whole.run(Silent())
    (tmp_path / "resume.pt").unlink()
    stopped, _ = _fit(prepared, recipe, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(Silent(stop_at=8))
    resumed, other = _fit(prepared, recipe, tmp_path)
    torch.manual_seed(999)
    assert _results(resumed.run(Silent())) == _results(unbroken)
    assert _same(one, other)
    assert 0 < stopped.progress.cpu_seconds == resumed.progress.earlier_cpu_seconds < resumed.progress.cpu_seconds


def test_training_lowers_the_loss(prepared: Prepared, tmp_path: Path) -> None:
    fit, _ = _fit(prepared, _recipe("sasrec", epochs=4, rows_per_epoch=600), tmp_path)
    losses = [loss for loss, _ in _results(fit.run(Silent()))]
    assert losses[-1] < losses[0] - 0.1


def test_it_stops_when_patience_is_over(prepared: Prepared, tmp_path: Path) -> None:
    scores = itertools.chain([0.1, 0.3, 0.2], itertools.repeat(0.25))
    fit, _ = _fit(prepared, _recipe("sasrec", epochs=9, patience=2), tmp_path, validate=lambda: next(scores))
    progress = fit.run(Silent())
    assert [epoch.best for epoch in progress.epochs] == [True, True, False, False]
    assert (progress.best_epoch, progress.best_score) == (2, 0.3)


def test_a_loss_that_is_no_number_ends_the_run(prepared: Prepared, tmp_path: Path) -> None:
    fit, model = _fit(prepared, _recipe("sasrec"), tmp_path)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(TrainingFailedError, match=r"step 1: the loss is nan; try a smaller training\.learning_rate"):
        fit.run(Silent())


def test_the_learning_rate_rises_then_falls_to_zero(prepared: Prepared, tmp_path: Path) -> None:
    recipe = _recipe("sasrec", epochs=4, warm_up=0.2, schedule="linear")
    fit, _ = _fit(prepared, recipe, tmp_path)
    rates = [fit.learning_rate(step) for step in range(20)]
    assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert rates[4] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.01 / 16)
    assert sorted(rates[4:], reverse=True) == rates[4:]


def test_half_precision_trains_too(prepared: Prepared, tmp_path: Path) -> None:
    fit, model = _fit(prepared, _recipe("sasrec", epochs=1, precision="bfloat16"), tmp_path)
    fit.run(Silent())
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}


def test_what_a_recipe_does_not_say_has_a_default() -> None:
    assert TrainingRecipe().schedule == "constant"
