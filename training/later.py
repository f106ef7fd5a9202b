"""A run that is judged on what happened after it: the newest day, before any model learns it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contract.files import BadFileError, read_arrays, read_object
from models.base import DatasetFacts, SequentialRecommender
from models.checkpoint import CONFIG, FACTS, WEIGHTS, context_of, load_checkpoint, read_tensors
from models.growth import grow
from models.parts.new_items import SHIFT, id_part, set_shift
from training.data.prepare import Prepared, load_prepared
from training.judging.document import judged
from training.judging.evaluate import Judge
from training.judging.served import FeatureScores, ServedScores
from training.judging.shown import shown
from training.recipe import Recipe, SplitRecipe
from training.rows.loader import dataset_facts, sequence_spec
from training.rows.positives import aimed
from training.rows.split import split
from training.runs import RunDirectory, RunError
from training.train import Machine, build
from training.warm_start import check_indices

Codes = NDArray[np.int64]


def judge_later(
    run: RunDirectory, data: Path, machine: Machine, by: SplitRecipe | None = None, *, quiet: bool = False
) -> dict[str, Any]:
    """Return the document of `training.judging.document` for the test queries of newer data.

    The model is judged as it is served: it does not know items and users that are new since, but it scores new items by
    their features if it learnt to do without ids.

    Args:
        run: complete; also a fit of all rows.
        data: the folder of prepared data sets; the run's was prepared after the run.
        machine: device and threads.
        by: another split than that of the run's recipe.
        quiet: show no progress.

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
    model, users = model.to(machine.torch_device()), _users(run)
    spec, scores_new = sequence_spec(model), bool(model.described_by)
    judge = Judge(prepared, spec, recipe.split, "test", dataset_facts(prepared, recipe).item_popularity)
    if scores_new:
        model = _with_new_items(run, recipe, prepared, users).to(machine.torch_device())
    with shown("evaluation", [(judge, 1 + judge.baseline_count)], quiet=quiet):
        views = judge.judged((FeatureScores if scores_new else ServedScores)(model, users, prepared, spec))
        return judged(recipe.split, {"test": judge}, {"test": views})


def _with_new_items(run: RunDirectory, recipe: Recipe, prepared: Prepared, users: int) -> SequentialRecommender:
    """Return the run's model with the items of today: each new one has the substitute for its id, and its features."""
    document = read_object(run.checkpoint / CONFIG)
    cardinalities, context = dict(document["cardinalities"]), context_of(document)
    before, weights = read_arrays(run.checkpoint / FACTS), read_tensors(run.checkpoint / WEIGHTS, torch.device("cpu"))
    popularity = np.zeros(len(prepared.items) + 1, dtype=np.float32)
    popularity[: len(before["item_popularity"])] = before["item_popularity"]
    features = {
        name: _continued(before[f"feature.{name}"], prepared.features[name], cardinality)
        for name, cardinality in cardinalities.items()
    }
    facts = DatasetFacts(len(prepared.items), users, popularity, features, cardinalities, context=context)
    model = build(recipe, facts)
    grow(model, weights, len(before["item_popularity"]) - 1)
    if id_part(model) is not None:
        shifts = [float(tensor) for name, tensor in weights.items() if name.endswith(SHIFT)]
        set_shift(model, shifts[0] if shifts else 0.0)
    return model


def _continued(before: Codes, today: Codes, cardinality: int) -> Codes:
    """Return the codes that the run has of its items, and today's of the others; a value that it never met is none."""
    codes = np.zeros((len(today), max(before.shape[1], today.shape[1])), dtype=np.int64)
    codes[: len(before), : before.shape[1]] = before
    new = today[len(before) :]
    codes[len(before) :, : today.shape[1]] = np.where(new < cardinality, new, 0)
    return codes


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
