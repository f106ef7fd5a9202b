"""One chain of days: train on a day, judge on the next one, and so on. Every finished step is kept on disk."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console

from benchmarks.daily.days import FIRST, LAST, day_start_ms, prepared_day
from benchmarks.daily.optimiser import learn_with_state
from benchmarks.daily.systems import VARIANTS, Variant, recipe_of
from contract.files import write_arrays, write_json
from models.checkpoint import CONFIG, load_checkpoint
from training.data.prepare import load_prepared
from training.fit_all import fit_all
from training.judging.evaluate import Judge
from training.judging.served import ServedScores
from training.judging.views import Views
from training.origin import Origin
from training.recipe import Recipe, SplitRecipe
from training.rows.loader import dataset_facts, sequence_spec
from training.runs import RunDirectory
from training.train import Machine, train

QUIET: Final = Console(quiet=True)
MACHINE: Final = Machine("cpu", 1)


def replay(model: str, variant: str, work: Path) -> Iterator[dict[str, Any]]:
    """Yield the record of every day: what its training cost, and how good the run is on the day after."""
    how, run = VARIANTS[variant], base(model, work)
    for day in range(FIRST, LAST + 1):
        if day > FIRST and how is not None:
            run = _trained(model, variant, how, day, run, work)
        yield _judged(model, variant, day, run, work)


def base(model: str, work: Path) -> RunDirectory:
    """Return the run that all chains of a model start from: the epochs are chosen on its newest day."""
    return _fit(recipe_of(model), Origin("all", str(validated(model, work).path)), FIRST, work / model / "base", work)


def validated(model: str, work: Path) -> RunDirectory:
    """Return the run that chose the number of epochs."""
    place = work / model / "validated"
    for path in _complete(place):
        return RunDirectory(path)
    recipe = recipe_of(model)
    run = RunDirectory.create(place, recipe)
    train(run, recipe, prepared_day(FIRST, work), MACHINE, QUIET)
    return run


def _trained(model: str, variant: str, how: Variant, day: int, before: RunDirectory, work: Path) -> RunDirectory:
    started = "" if how.warm is None else str(before.path)
    origin = Origin("all", str(validated(model, work).path), started)
    place = work / model / variant.replace(" ", "-").replace(",", "") / f"{day:02d}"
    return _fit(recipe_of(model, how.warm), origin, day, place, work, carried=how.carried)


def _fit(recipe: Recipe, origin: Origin, day: int, place: Path, work: Path, *, carried: bool = False) -> RunDirectory:
    for path in _complete(place):
        return RunDirectory(path)
    shutil.rmtree(place, ignore_errors=True)  # a training that was killed
    data = prepared_day(day, work)
    began = time.process_time()
    run = RunDirectory.create(place, recipe, origin)
    if carried:
        learn_with_state(run, data, MACHINE, QUIET)
    else:
        fit_all(run, data, MACHINE, QUIET)
    write_json(run.path / "cost.json", {"cpu_seconds": time.process_time() - began})
    return run


def _complete(place: Path) -> Iterator[Path]:
    yield from (path.parent for path in place.glob("*/*/*/run.json"))


def _judged(model: str, variant: str, day: int, run: RunDirectory, work: Path) -> dict[str, Any]:
    """Return the record of a run on the day after `day`, with the users of the queries and their metrics on disk."""
    place = work / model / "judged" / f"{variant.replace(' ', '-').replace(',', '')}-{day:02d}"
    if not place.with_suffix(".json").exists():
        views, baselines, first = _views(run, day + 1, work)
        facts, cost = run.facts(), json.loads((run.path / "cost.json").read_text())
        record = {"model": model, "variant": variant, "day": day + 1, "first": first, "rows": facts["rows"]}
        record |= {"epochs": facts["epochs"], "new_rows": facts.get("new_rows"), **cost}
        record |= {view: one.means() for view, one in views.items()}
        record["baselines"] = {name: found[first].means() for name, found in baselines.items()}
        place.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(place.with_suffix(".npz"), {"user": views[first].users, **views[first].values})
        write_json(place.with_suffix(".json"), record)
    return dict(json.loads(place.with_suffix(".json").read_text()))


def _views(run: RunDirectory, day: int, work: Path) -> tuple[Views, dict[str, Views], str]:
    prepared, recipe = load_prepared(prepared_day(day, work) / run.recipe().dataset), run.recipe()
    hours = (int(prepared.columns["times_ms"].max()) - day_start_ms(day) + 1) / 3_600_000
    by = SplitRecipe(protocol="time", valid_hours=1.0, test_hours=hours, ranked_queries=0)
    _, model = load_checkpoint(run.checkpoint)
    users, spec = json.loads((run.checkpoint / CONFIG).read_text())["user_count"], sequence_spec(model)
    facts = dataset_facts(prepared, recipe.model_copy(update={"split": by}))
    judge = Judge(prepared, spec, by, "test", facts.item_popularity, choosing=True)
    torch.manual_seed(0)
    return judge.judged(ServedScores(model, users, prepared, spec)), judge.baselines(), judge.first


def per_query(model: str, variant: str, day: int, work: Path) -> dict[str, np.ndarray]:
    """Return the users of a day's queries and their metrics, after `replay` has passed it."""
    name = f"{variant.replace(' ', '-').replace(',', '')}-{day - 1:02d}.npz"
    with np.load(work / model / "judged" / name) as arrays:
        return {key: arrays[key] for key in arrays.files}
