"""Optuna's study of a search: its storage, sampler and pruner, and the trials that a killed process left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import optuna
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from training.recipe import Recipe
from training.search.budget import Spending
from training.space import Value

STORAGE: Final = "trials.db"
FOLDER, ROWS, CPU_SECONDS, REASON, METRIC = "folder", "rows", "cpu_seconds", "reason", "metric"
"""Attributes of a trial in the storage: the folder that it continues, its cost, why it ended early, its metric."""
_RANDOM: Final = 8  # trials before the sampler learns from the others
_UNPRUNED: Final = 4  # finished trials before any is pruned
_SPARED: Final = 4  # none is pruned in the first quarter of its epochs: some values only start slowly


@contextmanager
def opened(folder: Path, recipe: Recipe) -> Iterator[optuna.Study]:
    """Open the study of a search, created if absent; one process at a time.

    Args:
        folder: of the search.
        recipe: its seed is that of the sampler; a search that goes on draws other values than at its beginning.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = RDBStorage(f"sqlite:///{folder / STORAGE}")
    try:
        study = optuna.create_study(
            storage=storage, study_name="search", direction="maximize", load_if_exists=True,
            pruner=MedianPruner(_UNPRUNED, n_warmup_steps=max(2, recipe.training.epochs // _SPARED)),
        )  # fmt: skip
        study.sampler = TPESampler(n_startup_trials=_RANDOM, seed=recipe.seed + len(study.trials))
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def take_up(study: optuna.Study) -> None:
    """Queue the trials again that a killed process left running; their folders have what they have learnt."""
    queued = {folder_of(trial) for trial in study.get_trials(states=(TrialState.WAITING,))}
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if folder_of(trial) not in queued:
            study.enqueue_trial(trial.params, user_attrs={FOLDER: folder_of(trial)})
        study.tell(trial.number, state=TrialState.FAIL)


def folder_of(trial: Trial | FrozenTrial) -> str:
    """Return the name of a trial's folder: its number, unless it continues an earlier one."""
    return str(trial.user_attrs.get(FOLDER, f"{trial.number:04}"))


def begin_with(study: optuna.Study, values: dict[str, Value] | None) -> None:
    """Make the recipe's own values the first trial of a new study."""
    if values is not None and not study.trials:
        study.enqueue_trial(dict(values))


def ended(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that have ended, in order; of those that continue one another, the last."""
    last = {folder_of(trial): trial for trial in study.trials}
    return [trial for trial in last.values() if trial.state.is_finished()]


def best_of(study: optuna.Study) -> FrozenTrial | None:
    """Return the best complete trial, the first of equals."""
    complete = [trial for trial in ended(study) if trial.state is TrialState.COMPLETE]
    return max(complete, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)


def spent_on(study: optuna.Study) -> Spending:
    """Return the cost of all trials so far."""
    costs = [trial.user_attrs for trial in study.trials]
    rows, seconds = (sum(cost.get(name, 0) for cost in costs) for name in (ROWS, CPU_SECONDS))
    return Spending(len(ended(study)), int(rows), float(seconds))
