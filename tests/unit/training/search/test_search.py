"""Searches with real Optuna, real storage and real trainings on a tiny data set."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from training import __main__ as training
from training.recipe import load_recipe, parse_recipe
from training.search.budget import Budget, Spending
from training.search.picture import figure_of
from training.search.study import ended, opened, spent_on
from training.space import Dimension

pytestmark = pytest.mark.usefixtures("no_curves")

ROOT = Path(__file__).resolve().parents[4]
RECIPE = """
dataset = "small"
model = "bpr"
[config]
length = 4
width = 4
[training]
epochs = {epochs}
rows_per_epoch = {rows}
learning_rate = 0.01
negatives = 2
[search.space]
"training.learning_rate" = {{ low = 1e-4, high = 0.1, log = true }}
"config.width" = {{ choices = [2, 4, 8] }}
"""


def _recipe(folder: Path, epochs: int = 2, rows: int = 100) -> Path:
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(epochs=epochs, rows=rows))
    return path


def _where(folder: Path, data: Path) -> list[str]:
    return ["--data", str(data), "--out", str(folder / "runs"), "--device", "cpu", "--mlflow", ""]


def _folder(folder: Path) -> Path:
    (plan,) = (folder / "runs").rglob("search.json")
    return plan.parent


def _trials(search: Path) -> list[optuna.trial.FrozenTrial]:
    with opened(search, load_recipe(search.parents[3] / "recipe.toml")) as study:
        return ended(study)


def test_a_search_writes_its_trials_a_picture_and_a_recipe_that_trains(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = _recipe(tmp_path)
    assert training.main(["search", str(recipe), "--trials", "3", *_where(tmp_path, data)]) == 0
    search, out = _folder(tmp_path), capsys.readouterr().out
    trials = _trials(search)
    assert len(trials) == 3
    assert trials[0].params == {"training.learning_rate": 0.01, "config.width": 4}  # the recipe itself comes first
    assert "spent: 3 trials, 600 rows" in out
    assert (search / "trials.png").read_bytes().startswith(b"\x89PNG")
    best = max(trials, key=lambda trial: trial.value or 0.0)
    found = load_recipe(search / "best.toml")
    assert found.config["width"] == best.params["config.width"]
    assert found.training.learning_rate == pytest.approx(best.params["training.learning_rate"], rel=1e-3)
    log = [json.loads(line) for line in (search / "trials" / "0000" / "log.jsonl").read_text().splitlines()]
    assert [one["valid_score"] for one in log] == list(trials[0].intermediate_values.values())
    assert trials[0].value == max(one["valid_score"] for one in log)
    assert not list(search.rglob("metrics.json")), "no trial is judged on test"
    assert not list(search.rglob("weights.pt"))
    assert training.main(["train", str(search / "best.toml"), *_where(tmp_path, data)]) == 0


@pytest.mark.slow
def test_a_finished_search_goes_on_to_a_larger_budget(tmp_path: Path, data: Path) -> None:
    where = _where(tmp_path, data)
    assert training.main(["search", str(_recipe(tmp_path, epochs=1)), "--trials", "1", *where]) == 0
    before = _trials(_folder(tmp_path))
    assert training.main(["search", "--resume", str(_folder(tmp_path)), "--trials", "2", *where]) == 0
    after = _trials(_folder(tmp_path))
    assert [trial.number for trial in after] == [0, 1]
    assert (after[0].params, after[0].value) == (before[0].params, before[0].value)


@pytest.mark.slow
def test_rows_are_a_budget_that_cuts_the_last_trial(tmp_path: Path, data: Path) -> None:
    assert training.main(["search", str(_recipe(tmp_path)), "--rows", "300", *_where(tmp_path, data)]) == 0
    first, second = _trials(_folder(tmp_path))
    assert (first.state, second.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert second.user_attrs["reason"] == "the budget ended"
    assert first.user_attrs["rows"] + second.user_attrs["rows"] == 300


def test_the_first_limit_that_is_reached_ends_a_search() -> None:
    budget = Budget(trials=10, cpu_seconds=100.0)
    assert budget.share(Spending(trials=5, rows=10**9, cpu_seconds=20.0)) == 0.5
    assert budget.share(Spending(trials=5, cpu_seconds=60.0), Spending(0.5, 0, 60.0)) == 1.2
    assert Budget.given(None, None, None) == Budget(trials=20)
    assert Budget.given(None, 500, None) == Budget(rows=500)


def test_values_that_do_not_fit_are_failed_trials_with_the_reason(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "space.toml").write_text("[space]\n'training.learning_rate' = { choices = [0.01, 5.0] }\n")
    recipe = _recipe(tmp_path, epochs=1)
    options = ["--space", str(tmp_path / "space.toml"), "--trials", "6"]
    assert training.main(["search", str(recipe), *options, *_where(tmp_path, data)]) == 0
    states = {trial.params["training.learning_rate"]: trial.state for trial in _trials(_folder(tmp_path))}
    assert states == {0.01: TrialState.COMPLETE, 5.0: TrialState.FAIL}
    assert "failed: the trial's recipe: training.learning_rate" in capsys.readouterr().out


@pytest.mark.slow
def test_a_trial_that_is_worse_than_the_others_is_pruned(tmp_path: Path, data: Path) -> None:
    (tmp_path / "space.toml").write_text(
        "[space]\n'training.learning_rate' = { low = 1e-6, high = 0.05, log = true }\n"
    )
    recipe = _recipe(tmp_path, epochs=4, rows=400)
    options = ["--space", str(tmp_path / "space.toml"), "--trials", "16"]
    assert training.main(["search", str(recipe), *options, *_where(tmp_path, data)]) == 0
    trials = _trials(_folder(tmp_path))
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    assert pruned
    assert all(2 <= len(trial.intermediate_values) < 4 for trial in pruned)
    best = max(trial.value or 0.0 for trial in trials if trial.state is TrialState.COMPLETE)
    assert all((trial.value or 0.0) < best for trial in pruned)
    assert spent_rows(trials) < 16 * 4 * 400


def spent_rows(trials: list[optuna.trial.FrozenTrial]) -> int:
    return sum(int(trial.user_attrs["rows"]) for trial in trials)


@pytest.mark.slow
def test_a_killed_search_goes_on_with_the_trial_that_it_was_at(tmp_path: Path, data: Path) -> None:
    """SIGKILL in the middle of the second trial; the next process continues this trial after its last epoch."""
    recipe = _recipe(tmp_path, epochs=6, rows=40_000)
    where = [*_where(tmp_path, data), "--threads", "1"]
    command = [sys.executable, "-m", "training", "search", str(recipe), "--trials", "3", *where]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    log = "*/*/*/trials/0001/log.jsonl"
    try:
        _until(lambda: any(_lines(path) >= 2 for path in (tmp_path / "runs").glob(log)), process)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    search = _folder(tmp_path)
    learnt = [json.loads(line) for line in (search / "trials/0001/log.jsonl").read_text().splitlines()]
    assert 2 <= len(learnt) < 6
    assert training.main(["search", "--resume", str(search), *where]) == 0
    assert sorted(path.name for path in (search / "trials").iterdir()) == ["0000", "0001", "0003"]
    whole = [json.loads(line) for line in (search / "trials/0001/log.jsonl").read_text().splitlines()]
    assert [_figures(line) for line in whole[: len(learnt)]] == [_figures(line) for line in learnt]
    assert [one["epoch"] for one in whole] == list(range(1, len(whole) + 1))
    with opened(search, load_recipe(recipe)) as study:
        assert len(ended(study)) == 3
        left, again = study.trials[1:3]
        assert (left.state, again.user_attrs["folder"], again.params) == (TrialState.FAIL, "0001", left.params)
        assert list(again.intermediate_values.values()) == [one["valid_score"] for one in whole]
        kept = sum(_lines(path) for path in (search / "trials").glob("*/log.jsonl"))
        assert spent_on(study).rows / 40_000 - kept in (0, 1), "at most the epoch that was killed is learnt twice"


def _figures(line: dict[str, Any]) -> tuple[float, float]:
    return line["loss"], line["valid_score"]


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def _until(true: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    while not true():
        assert process.poll() is None, "the search ended before it could be killed"
        time.sleep(0.01)


@pytest.mark.slow
def test_one_process_works_on_a_search(tmp_path: Path, data: Path, refused: Callable[..., str]) -> None:
    import fcntl

    where = _where(tmp_path, data)
    assert training.main(["search", str(_recipe(tmp_path, epochs=1)), "--trials", "1", *where]) == 0
    with (_folder(tmp_path) / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = refused(training.main, "search", "--resume", _folder(tmp_path), "--trials", "2", *where)
    assert "another process works on this search" in said


def test_searches_that_cannot_begin_are_one_line(tmp_path: Path, data: Path, refused: Callable[..., str]) -> None:
    where = _where(tmp_path, data)
    untrained = tmp_path / "popularity.toml"
    untrained.write_text('dataset = "small"\nmodel = "popularity"\n[training]\nepochs = 0\n')
    assert "nothing to search" in refused(training.main, "search", untrained, *where)
    assert "name a recipe" in refused(training.main, "search", *where)
    assert "not above 0" in refused(training.main, "search", _recipe(tmp_path), "--trials", "0", *where)
    assert "not the folder of a search" in refused(training.main, "search", "--resume", tmp_path, *where)


def test_the_picture_names_the_metric_and_every_key() -> None:
    recipe = parse_recipe({"dataset": "small", "model": "bpr"}, "test")
    space = {
        "training.learning_rate": Dimension(low=1e-4, high=0.1, log=True),
        "config.width": Dimension(choices=(2, 4)),
    }
    trials = [
        optuna.trial.create_trial(
            value=0.1 * number,
            params={"training.learning_rate": 0.01, "config.width": 2},
            distributions={
                "training.learning_rate": optuna.distributions.FloatDistribution(1e-4, 0.1, log=True),
                "config.width": optuna.distributions.CategoricalDistribution((2, 4)),
            },
            user_attrs={"metric": "unseen.ndcg@10"},
        )
        for number in (1, 2)
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    history, rate, width = figure_of(trials, recipe, space, "s").axes
    assert history.get_title("left") == "validation: NDCG@10, seen items ruled out"
    assert rate.get_ylabel() == "NDCG@10"
    assert (rate.get_xlabel(), rate.get_xscale()) == ("training.learning_rate", "log")
    assert [tick.get_text() for tick in width.get_xticklabels()] == ["2", "4"]
