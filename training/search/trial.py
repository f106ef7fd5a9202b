"""One trial: a training on its own folder, judged on validation after each epoch, pruned when others were better."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from optuna import Trial, TrialPruned
from rich.console import Console

from contract.files import write_whole
from contract.progress import Progress
from training.fitting.fit import Epoch
from training.fitting.watchers import ConsoleWatcher
from training.recipe import Recipe
from training.reporting.reporter import Ending, Reporter, Training, telling
from training.runs import RunDirectory
from training.search.budget import Budget, Spending
from training.search.study import CPU_SECONDS, METRIC, ROWS
from training.train import Machine, learn, set_up, validating


@dataclass(frozen=True)
class Place:
    """Where and on what trials run, and who is told about each.

    Attributes:
        folder: of the search.
        data: of prepared data sets.
        reporters: returns fresh ones.
    """

    folder: Path
    data: Path
    machine: Machine
    reporters: Callable[[], Sequence[Reporter]]


@dataclass(frozen=True)
class Account:
    """The budget, and what other trials have spent of it."""

    budget: Budget
    spent: Spending
    progress: Progress


class BudgetSpentError(Exception):
    """The budget ended in the middle of a trial."""


class _Judge:
    """Tells Optuna the validation of each epoch, notes the cost, and ends a trial that is worse or too much."""

    name: ClassVar[str] = "search"
    required: ClassVar[bool] = True

    def __init__(self, trial: Trial, account: Account, rows: int, started: float) -> None:
        self._trial, self._account, self._rows = trial, account, rows
        self._told, self._started = set[int](), started
        self._before: int | None = None

    def begin(self, training: Training) -> None:
        """See `Reporter`."""

    def epoch(self, epochs: Sequence[Epoch]) -> None:
        """See `Reporter`."""
        for epoch in epochs:
            if epoch.epoch not in self._told and epoch.valid_score is not None:
                self._trial.report(epoch.valid_score, epoch.epoch)
                self._told.add(epoch.epoch)
        if self._before is None:  # epochs of an earlier process are on its account
            self._before = len(epochs) - 1
        cost = Spending(0, (len(epochs) - self._before) * self._rows, time.process_time() - self._started)
        self._trial.set_user_attr(ROWS, cost.rows)
        self._trial.set_user_attr(CPU_SECONDS, round(cost.cpu_seconds, 2))
        if self._trial.should_prune():
            raise TrialPruned
        if self._account.budget.share(self._account.spent, cost) >= 1:
            raise BudgetSpentError

    def end(self, ending: Ending, metrics: Mapping[str, float]) -> None:
        """See `Reporter`."""


class _Watcher(ConsoleWatcher):
    """Shows a trial as a part of the search."""

    def __init__(self, console: Console, title: str, metric: str, account: Account) -> None:
        super().__init__(console, title, metric)
        self._account = account

    def start(self, epochs: int, rows: int, done: int) -> None:
        """See `training.fitting.fit.Watcher`."""
        self._begun, self._total, self._done = time.process_time(), epochs * rows, done * rows

    def step(self, rows: int, loss: float) -> None:
        """See `training.fitting.fit.Watcher`."""
        self._rows += rows
        self._done += rows
        cost = Spending(self._done / self._total, self._rows, time.process_time() - self._begun)
        share = self._account.budget.share(self._account.spent, cost)
        self._account.progress.at(share, f"loss {loss:.3f}  {self.rate():,.0f} rows/s", self._title)

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """See `training.fitting.fit.Watcher`."""

    def rate(self) -> float:
        """See `training.fitting.fit.Watcher`."""
        return self._rows / max(time.monotonic() - self._started, 1e-9)


def run_trial(trial: Trial, recipe: Recipe, name: str, place: Place, account: Account) -> float:
    """Train one recipe; returns the best validation of its epochs.

    Args:
        trial: of the study.
        recipe: the trial's.
        name: of its folder; one that a killed process left is continued.
        place: the folders and the machine.
        account: the budget.

    Raises:
        TrialPruned: after an epoch, others were better.
        BudgetSpentError: the budget ended after an epoch.
        RecipeError, NegativesError, TrainingFailedError: these values cannot be trained.
        StoppedError: Ctrl-C.
    """
    started = time.process_time()  # a trial pays for loading its data too
    run, console = RunDirectory(place.folder / "trials" / name), Console(quiet=True)
    run.path.mkdir(parents=True, exist_ok=True)
    write_whole(run.path / "recipe.json", (recipe.model_dump_json(indent=2) + "\n").encode())
    setup = set_up(run, recipe, place.data, place.machine, console)
    metric, validate = validating(setup, (), quiet=True)
    trial.set_user_attr(METRIC, metric)
    rows = recipe.training.rows_per_epoch or len(setup.start.rows.items)
    reporters = [_Judge(trial, account, rows, started), *place.reporters()]
    with telling(Training(run.path, recipe, metric), reporters, console) as report:
        watcher = _Watcher(console, f"trial {trial.number}", metric, account)
        try:
            score = learn(run, setup, watcher, report, validate).best_score
        except (TrialPruned, BudgetSpentError):
            report.stopped()
            raise
        report.finished({})
    return score
