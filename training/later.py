"""A run that is judged on what happened after it: the newest day, before any model learns it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from contract.files import BadFileError, read_object
from models.checkpoint import CONFIG, load_checkpoint
from training.data.prepare import Prepared, load_prepared
from training.judging.document import judged
from training.judging.evaluate import Judge
from training.judging.served import ServedScores
from training.recipe import SplitRecipe
from training.rows.loader import dataset_facts, sequence_spec
from training.rows.positives import aimed
from training.rows.split import split
from training.runs import RunDirectory, RunError
from training.train import Machine
from training.warm_start import check_indices


def judge_later(run: RunDirectory, data: Path, machine: Machine, by: SplitRecipe | None = None) -> dict[str, Any]:
    """Return the document of `training.judging.document` for the test queries of newer data.

    The model is judged as it is served: it does not know items and users that are new since.

    Args:
        run: complete; also a fit of all rows.
        data: the folder of prepared data sets; the run's was prepared after the run.
        machine: device and threads.
        by: another split than that of the run's recipe.

    Raises:
        RunError: the run has learnt some of the test queries, or does not tell what it learnt.
        WarmStartError: the data have other indices.
    """
    recipe = run.recipe()
    recipe = recipe if by is None else recipe.model_copy(update={"split": by})
    prepared = aimed(load_prepared(data / recipe.dataset), recipe.positive)
    check_indices(run.path, prepared)
    _check_later(run, prepared, recipe.split)
    _, model = load_checkpoint(run.checkpoint)
    model, spec = model.to(machine.torch_device()), sequence_spec(model)
    judge = Judge(prepared, spec, recipe.split, "test", dataset_facts(prepared, recipe).item_popularity)
    views = judge.judged(ServedScores(model, _users(run), prepared, spec))
    return judged(recipe.split, {"test": judge}, {"test": views})


def _check_later(run: RunDirectory, prepared: Prepared, by: SplitRecipe) -> None:
    learnt, first = run.facts().get("learnt_until_ms"), 0
    if prepared.has_times:
        first = int(np.min(split(prepared, by.protocol, by.held, by.hours).test.times_ms))
    if not isinstance(learnt, int) or learnt >= first:
        raise RunError(f"{run.path} has learnt some of the test queries of {prepared.directory}; prepare newer data")


def _users(run: RunDirectory) -> int:
    try:
        return int(read_object(run.checkpoint / CONFIG)["user_count"])
    except (BadFileError, TypeError, ValueError) as error:
        raise RunError(f"{run.path}: {error}") from None
