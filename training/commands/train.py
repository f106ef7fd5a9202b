"""train: one recipe to a run directory."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from contract.command_line import STOPPED
from training.commands.fit_all import fitted
from training.commands.machine import add_machine, add_world
from training.commands.metrics import print_metrics
from training.commands.reporters import add_reporters, reporters

if TYPE_CHECKING:  # torch takes a second to import; --help must not wait for it
    from training.fitting.world import World
    from training.origin import Origin
    from training.recipe import Recipe
    from training.runs import RunDirectory
    from training.train import Machine


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    command.add_argument("recipe", type=Path, nargs="?", help="a recipe: training/recipes/<data set>/<model>.toml")
    command.add_argument("--out", type=Path, default=Path("runs"), help="folder of runs (default runs)")
    command.add_argument("--seed", type=int, help="instead of the recipe's own")
    command.add_argument("--dataset", metavar="NAME", help="a prepared data set, instead of the recipe's own")
    command.add_argument("--from", dest="start", type=Path, metavar="RUN", help="go on from the weights of this run")
    command.add_argument("--until", metavar="TIME", help="without interactions at or after this time (UTC)")
    command.add_argument("--resume", type=Path, metavar="RUN", help="continue a run that was stopped")
    command.add_argument("--report", action="store_true", help="progress as JSON lines, for a program")
    add_reporters(command)
    add_machine(command)
    add_world(command)


def run(options: argparse.Namespace) -> int:
    """Train the recipe; returns the exit status."""
    from training.fitting.world import joined
    from training.train import Machine

    machine = Machine(options.device, options.threads)
    with joined(machine.torch_device(), options.wait) as world, world.folder(options.out) as out:
        return _run(options, machine, out, world)


def _run(options: argparse.Namespace, machine: Machine, out: Path, world: World) -> int:
    from models.base import NegativesError
    from training.origin import read_origin
    from training.recipe import RecipeError
    from training.runs import RunDirectory
    from training.train import StoppedError, train

    console = Console(highlight=False, quiet=not world.is_first)
    if options.resume is not None:
        directory, recipe = _stopped(options.resume)
        if read_origin(directory.path).fit == "all":
            return fitted(directory, options, machine, world)
        cleaning: AbstractContextManager[None] = nullcontext()  # folders that existed before the command stay
    else:
        recipe = _recipe(options)
        directory = RunDirectory.create(out, recipe, _origin(options))
        cleaning = directory.discarded_unless_learnt()
    try:
        with cleaning:
            train(
                directory, recipe, options.data, machine, console,
                reporting=options.report, world=world, reporters=reporters(options, console) if world.is_first else (),
            )  # fmt: skip
    except StoppedError:
        console.print(f"\nstopped; continue with: python -m training train --resume {directory.path}", soft_wrap=True)
        return STOPPED
    except (NegativesError, RecipeError) as error:
        raise RecipeError(f"{options.recipe or directory.path}: {error}") from error
    if world.is_first:
        print_metrics(directory.metrics(), console)
        print(f"run: {directory.path}")
    return 0


def _stopped(path: Path) -> tuple[RunDirectory, Recipe]:
    from training.runs import RunDirectory, RunError

    directory = RunDirectory(path)
    if directory.is_complete:
        raise RunError(f"{path} is complete; there is nothing to resume")
    return directory, directory.recipe()


def _origin(options: argparse.Namespace) -> Origin:
    from training.data.cut import time_of
    from training.origin import Origin

    return Origin(
        started_from="" if options.start is None else str(options.start.resolve()),
        until_ms=None if options.until is None else time_of(options.until),
    )


def _recipe(options: argparse.Namespace) -> Recipe:
    from training.recipe import RecipeError, load_recipe
    from training.runs import RunDirectory

    if options.recipe is not None:
        return load_recipe(options.recipe, seed=options.seed, dataset=options.dataset)
    if options.start is None:
        raise RecipeError("name a recipe, or a run with --from or --resume")
    given = {"seed": options.seed, "dataset": options.dataset}
    return RunDirectory(options.start).recipe().model_copy(update={k: v for k, v in given.items() if v is not None})
