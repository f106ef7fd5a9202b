"""A search from beginning to end: trials until the budget is spent, the best recipe, and a picture.

| File | Contains |
| --- | --- |
| search.json | the recipe, the space, the budget |
| trials.db | Optuna's storage (SQLite): every trial's values and validation by epoch |
| trials/NNNN/ | recipe.json, log.jsonl and curves.png of a trial; its weights are removed when it ends |
| best.toml | the best recipe so far, for `training train` |
| trials.png | the trials: validation in their order, and by each value |
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from contract.command_line import CommandError, one_line
from contract.files import BadFileError, read_object, write_json, write_whole
from contract.progress import Progress
from models.base import NegativesError
from training.fitting.fit import TrainingFailedError
from training.recipe import Recipe, RecipeError, parse_recipe
from training.runs import RunDirectory
from training.search.budget import Budget, Spending
from training.search.picture import draw
from training.search.study import METRIC, REASON, begin_with, best_of, ended, folder_of, opened, spent_on, take_up
from training.search.toml import recipe_toml
from training.search.trial import Account, BudgetSpentError, Place, run_trial
from training.search.values import drawn, own_values, with_values
from training.space import SearchRecipe, Space

PLAN: Final = "search.json"
BEST: Final = "best.toml"
PICTURE: Final = "trials.png"
_UNFIT: Final = (RecipeError, NegativesError, TrainingFailedError)  # of the values, not of the data or the machine


class SearchError(CommandError, ValueError):
    """A search cannot begin or go on; the message has the reason."""


@dataclass(frozen=True)
class Search:
    """A search: `search.json`.

    Attributes:
        folder: of its files.
        recipe: searched around; its seed is that of every trial.
        budget: of all processes that work on it, one after the other.
    """

    folder: Path
    recipe: Recipe
    space: Space
    budget: Budget

    @classmethod
    def begin(cls, out: Path, recipe: Recipe, space: Space, budget: Budget) -> Search:
        """Make the folder of a new search.

        Raises:
            SearchError: the recipe trains nothing.
        """
        if not recipe.training.epochs:
            raise SearchError(f"{recipe.model} has no epochs: there is nothing to search")
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{recipe.digest()[:6]}"
        folder = out / recipe.dataset / f"{recipe.found().name}-search" / name
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise SearchError(f"{folder} exists already; go on with it: --resume {folder}") from None
        return cls(folder, recipe, space, budget).kept()

    @classmethod
    def read(cls, folder: Path, more: Budget | None = None) -> Search:
        """Return the search of a folder, with another budget if one is given.

        Raises:
            SearchError: the folder is not that of a search.
        """
        try:
            document = read_object(folder / PLAN)
            space = SearchRecipe.model_validate({"space": document["space"]}).space
            recipe, budget = parse_recipe(document["recipe"], str(folder / PLAN)), Budget(**document["budget"])
        except (BadFileError, TypeError, ValueError) as error:
            raise SearchError(f"{folder} is not the folder of a search: {one_line(str(error))}") from None
        return cls(folder, recipe, space, budget if more is None else more).kept()

    def kept(self) -> Search:
        """Write search.json; returns the search."""
        space = {key: one.model_dump(exclude_defaults=True) for key, one in self.space.items()}
        document = {"recipe": self.recipe.model_dump(mode="json"), "space": space, "budget": self.budget.document()}
        write_json(self.folder / PLAN, document)
        return self


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        number, metric, value: of the best trial, on validation.
        recipe: the best.
        spent: on all trials.
    """

    number: int
    metric: str
    value: float
    recipe: Recipe
    spent: Spending


def search(search: Search, place: Place, console: Console, *, quiet: bool = False) -> Found:
    """Run trials until the budget is spent; returns the best one.

    Raises:
        SearchError: another process works on it, or no trial was completed.
        DataError, SplitError, MachineError: see `training.train.train`.
        StoppedError: Ctrl-C; the search can go on.
    """
    with _locked(search.folder), opened(search.folder, search.recipe) as study:
        take_up(study)
        begin_with(study, own_values(search.recipe, search.space))
        spent = spent_on(study)
        with Progress("search", 1.0, done=search.budget.share(spent), quiet=quiet) as progress:
            while search.budget.share(spent) < 1:
                _one(study, search, place, Account(search.budget, spent, progress), console)
                spent = spent_on(study)
        return _found(study, search)


def _one(study: optuna.Study, search: Search, place: Place, account: Account, console: Console) -> None:
    """Run one trial, tell the study how it ended, and keep the best recipe."""
    trial = study.ask()
    run = RunDirectory(search.folder / "trials" / folder_of(trial))
    try:
        recipe = with_values(search.recipe, drawn(trial, search.space))
        study.tell(trial, run_trial(trial, recipe, run.path.name, place, account))
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except BudgetSpentError:
        trial.set_user_attr(REASON, "the budget ended")
        study.tell(trial, state=TrialState.PRUNED)
    except _UNFIT as error:
        trial.set_user_attr(REASON, one_line(str(error))[:300])
        study.tell(trial, state=TrialState.FAIL)
    run.keep_log_only()
    account.progress.clear()
    done = study.trials[trial.number]
    console.print(told(done, best_of(study)), soft_wrap=True, markup=False)
    _write_best(study, search, done)


def told(trial: FrozenTrial, best: FrozenTrial | None) -> str:
    """Return the line about a trial that has ended."""
    values = "  ".join(f"{key.rpartition('.')[2]} {value}" for key, value in _short(trial).items())
    epochs = len(trial.intermediate_values)
    reason = trial.user_attrs.get(REASON)
    if trial.state is TrialState.COMPLETE:
        mark = "  best" if best is not None and best.number == trial.number else ""
        ending = f"valid {str(trial.user_attrs[METRIC]).upper()} {trial.value:.4f}{mark}"
    elif trial.state is TrialState.PRUNED:
        ending = f"pruned after epoch {epochs}, at {trial.value or 0.0:.4f}" + (f": {reason}" if reason else "")
    else:
        ending = f"failed: {reason}"
    return f"trial {trial.number}  {ending}  ({values})"


def _short(trial: FrozenTrial) -> dict[str, object]:
    return {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in trial.params.items()}


def _write_best(study: optuna.Study, search: Search, newest: FrozenTrial) -> None:
    """Write best.toml, if the newest trial is the best, and the picture."""
    best = best_of(study)
    if best is not None and best.number == newest.number:
        found = _found(study, search)
        comment = (
            f"Trial {best.number} of the search {search.folder.name}: {found.metric} {found.value:.4f} on validation."
        )
        write_whole(search.folder / BEST, recipe_toml(found.recipe, comment).encode())


def _found(study: optuna.Study, search: Search) -> Found:
    best = best_of(study)
    if best is None or best.value is None:
        failures = [str(trial.user_attrs[REASON]) for trial in ended(study) if REASON in trial.user_attrs]
        raise SearchError(f"{search.folder}: no trial was completed; {(failures or ['give it a larger budget'])[-1]}")
    recipe = parse_recipe(dict(read_object(search.folder / "trials" / folder_of(best) / "recipe.json")), "best trial")
    return Found(best.number, str(best.user_attrs[METRIC]), best.value, recipe, spent_on(study))


def trials_of(search: Search) -> list[dict[str, Any]]:  # Any: JSON
    """Return number, state, validation, epochs and values of every trial that has ended."""
    with opened(search.folder, search.recipe) as study:
        return [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "epochs": len(trial.intermediate_values),
                "values": trial.params,
            }
            for trial in ended(study)
        ]


def draw_trials(search: Search) -> Path:
    """Draw the trials of a search; returns the picture's path."""
    with opened(search.folder, search.recipe) as study:
        draw(ended(study), search.recipe, search.space, search.folder / PICTURE)
    return search.folder / PICTURE


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process work on a search; the lock ends with the process."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SearchError(f"{folder}: another process works on this search") from None
        yield
