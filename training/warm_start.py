"""A training that goes on from an earlier run: its weights, its indices, and the rows that it did not learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from contract.bundle.vocabulary import Vocabulary
from contract.command_line import CommandError
from contract.files import BadFileError, read_object
from models.base import SequentialRecommender
from models.checkpoint import CONFIG, WEIGHTS, read_tensors
from models.growth import GrowthError, grow
from training.data.attributes import read_attributes
from training.data.prepare import Prepared
from training.recipe import Recipe, TrainingRecipe
from training.rows.continued import continued
from training.rows.split import Rows
from training.runs import RunDirectory


class WarmStartError(CommandError, ValueError):
    """A run cannot be the start of this training; the message has the reason and the remedy."""


class WarmStart(NamedTuple):
    """The rows to learn, how to learn them, and facts about the start for run.json, none if the weights are fresh."""

    rows: Rows
    training: TrainingRecipe
    facts: dict[str, Any]


def warm_start(path: Path, model: SequentialRecommender, recipe: Recipe, prepared: Prepared, rows: Rows) -> WarmStart:
    """Fill a fresh model with the weights of a run, and choose among the rows of training.

    Args:
        path: the run directory.
        model: built from today's data; on the CPU.
        recipe: today's.
        prepared: today's data.
        rows: that may be learnt.

    Raises:
        WarmStartError: the run has other indices or another model, or does not tell what it has learnt.
        RunError: the run is not complete.
        SplitError: no row is newer than those of the run.
    """
    run = RunDirectory(path)
    facts = run.facts()
    _check_model(run, recipe)
    check_indices(path, prepared)
    try:
        items = int(read_object(run.checkpoint / CONFIG)["item_count"])
        grow(model, read_tensors(run.checkpoint / WEIGHTS, torch.device("cpu")), items)
    except GrowthError as error:
        raise WarmStartError(f"--from {path}: {error}") from None
    since = facts.get("learnt_until_ms")
    if not isinstance(since, int):
        raise WarmStartError(f"--from {path}: its run.json has no learnt_until_ms; train it again")
    chosen, new = continued(rows, since, recipe.warm.replay, recipe.seed)
    told = {"started_from": path.name, "new_rows": new, "old_rows": len(chosen.items) - new}
    return WarmStart(chosen, recipe.warm.applied(recipe.training), told)


def _check_model(run: RunDirectory, recipe: Recipe) -> None:
    before = run.recipe()
    if (before.model, before.config) != (recipe.model, recipe.config):
        raise WarmStartError(f"--from {run.path}: its model or config is not that of the recipe")
    if before.context != recipe.context:
        raise WarmStartError(f"--from {run.path}: its context is not that of the recipe")


def check_indices(path: Path, prepared: Prepared) -> None:
    """Refuse data in which an index means something else than in the run."""
    for name, today in (("items", prepared.items), ("users", prepared.users)):
        try:
            before = Vocabulary.parse((path / f"{name}.json").read_bytes())
        except ValueError as error:
            raise WarmStartError(f"--from {path}: {name}.json: {error}") from None
        _check_appended(path, name, list(before.ids), list(today.ids), prepared)
    features, described = _names(path), _names(prepared.directory)
    for field, names in features.items():
        _check_appended(path, f"values of {field}", names, described.get(field, []), prepared)
    for name, texts in read_attributes(path).items():
        _check_appended(path, f"values of {name}", texts, prepared.attributes.get(name, ()), prepared)


def _check_appended(path: Path, what: str, before: Sequence[str], today: Sequence[str], prepared: Prepared) -> None:
    if list(today[: len(before)]) != list(before):
        raise WarmStartError(
            f"--from {path}: the {what} of {prepared.directory} do not continue those of the run; prepare the data "
            f"with: python -m training prepare ... --after {path}"
        )


def _names(folder: Path) -> dict[str, list[str]]:
    try:
        return {name: list(facts["names"]) for name, facts in read_object(folder / "features.json").items()}
    except (BadFileError, KeyError, TypeError) as error:
        raise WarmStartError(f"--from: {folder}: {error}; train it again") from None
