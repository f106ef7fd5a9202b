"""A fit that learns every row, newest included, with the epochs that the validation of another run chose.

It has no test of its own: no row is left that could judge it. It takes over the figures of the run that chose.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from contract.files import write_json
from models.checkpoint import load_checkpoint
from models.parts.new_items import set_shift
from training.fitting.watchers import watcher_of
from training.fitting.world import ONE_PROCESS, World
from training.origin import Origin, read_origin
from training.reporting.reporter import Reporter, Training, telling
from training.rows.loader import dataset_facts
from training.runs import RunDirectory, RunError
from training.train import Machine, Setup, Spent, epochs_of, learn, set_up, write_reference

_TAKEN_OVER: Final = ("new_item_prior", "new_item_shift")
"""Facts about new items, taken from the validated run: this fit has no rows left to learn them from."""


def begin(
    validated: RunDirectory, out: Path, *, start: Path | None = None, until_ms: int | None = None
) -> RunDirectory:
    """Make the run directory of a fit of all rows.

    Args:
        validated: the run that chose the epochs; what it started from is the start of this fit too.
        out: the folder of runs.
        start: another run to start from, instead.
        until_ms: interactions at or after this time are left out.

    Raises:
        RunError: the run is not complete, or is itself a fit of all rows.
    """
    origin = read_origin(validated.path)
    if origin.fit == "all":
        raise RunError(f"{validated.path} has learnt every row already; name the run that chose its epochs")
    validated.facts(), validated.metrics()
    started_from = str(start.resolve()) if start is not None else origin.started_from
    mine = Origin("all", str(validated.path.resolve()), started_from, until_ms)
    return RunDirectory.create(out, validated.recipe(), mine)


def fit_all(
    run: RunDirectory,
    data: Path,
    machine: Machine,
    console: Console,
    *,
    reporting: bool = False,
    world: World = ONE_PROCESS,
    reporters: Sequence[Reporter] = (),
) -> dict[str, Any]:
    """Learn every row; returns the figures that the run takes over.

    Args:
        run: made by `begin`, fresh or stopped.
        data: the folder of prepared data sets.
        machine: device and threads.
        console: the output.
        reporting: whether progress is JSON lines for a program.
        world: the processes that train together; only the first one writes.
        reporters: are told about the training, beside the run's log.

    Raises:
        RunError: the run that chose the epochs is gone.
        StoppedError: Ctrl-C; the newest weights are in the checkpoint.
    """
    spent, recipe = Spent(), run.recipe()
    validated = RunDirectory(Path(read_origin(run.path).validated_by))
    chosen, measured = int(validated.facts()["best_epoch"]), dict(validated.metrics())
    setup = set_up(run, recipe, data, machine, console, world)
    with telling(Training(run.path, recipe, ""), reporters, console) as report:
        watcher = watcher_of(console, recipe.found().name, "", reporting=reporting)
        progress = learn(run, setup, watcher, report, None, last=chosen, world=world)
        spent.gather(world)
        if world.is_first:
            measured = {**measured, "measured_by": validated.path.name}
            write_json(run.path / "metrics.json", measured)
            facts = {**spent.told(progress), **setup.told(), **epochs_of(progress)}
            _shift_as(validated, run, setup)
            write_reference(run, recipe, setup.prepared, dataset_facts(setup.prepared, recipe), setup.device)
            facts |= {name: value for name, value in validated.facts().items() if name in _TAKEN_OVER}
            facts |= {"fit": "all", "validated_by": validated.path.name}
            run.finish(recipe, setup.prepared, setup.spec, facts)
        report.finished({})  # no row is left that could judge it
    return measured


def _shift_as(validated: RunDirectory, run: RunDirectory, setup: Setup) -> None:
    shift = validated.facts().get("new_item_shift")
    if shift is not None:
        _, model = load_checkpoint(run.checkpoint)
        set_shift(model, float(shift["added"]))
        run.keep(setup.recipe, setup.facts, model)
