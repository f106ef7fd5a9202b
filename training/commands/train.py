"""train: one recipe to a run directory."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from contract.command_line import STOPPED
from training.commands.machine import add_machine
from training.commands.metrics import print_metrics

if TYPE_CHECKING:  # torch takes a second to import; --help must not wait for it
    from training.recipe import Recipe
    from training.runs import RunDirectory


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    command.add_argument("recipe", type=Path, nargs="?", help="a recipe: training/recipes/<data set>/<model>.toml")
    command.add_argument("--out", type=Path, default=Path("runs"), help="folder of runs (default runs)")
    command.add_argument("--seed", type=int, help="instead of the recipe's own")
    command.add_argument("--dataset", metavar="NAME", help="a prepared data set, instead of the recipe's own")
    command.add_argument("--resume", type=Path, metavar="RUN", help="continue a run that was stopped")
    command.add_argument("--report", action="store_true", help="progress as JSON lines, for a program")
    add_machine(command)


def run(options: argparse.Namespace) -> int:
    """Train the recipe; returns the exit status."""
    from models.base import NegativesError
    from training.recipe import RecipeError
    from training.runs import RunDirectory
    from training.train import Machine, StoppedError, train

    if options.resume is not None:
        directory, recipe = _stopped(options.resume)
        cleaning: AbstractContextManager[None] = nullcontext()  # folders that existed before the command stay
    else:
        recipe = _recipe(options)
        directory = RunDirectory.create(options.out, recipe)
        cleaning = directory.discarded_unless_learnt()
    machine, console = Machine(options.device, options.threads), Console(highlight=False)
    try:
        with cleaning:
            train(directory, recipe, options.data, machine, console, reporting=options.report)
    except StoppedError:
        print(f"\nstopped; continue with: python -m training train --resume {directory.path}")
        return STOPPED
    except (NegativesError, RecipeError) as error:
        raise RecipeError(f"{options.recipe or directory.path}: {error}") from error
    print_metrics(directory.metrics(), console)
    print(f"run: {directory.path}")
    return 0


def _stopped(path: Path) -> tuple[RunDirectory, Recipe]:
    from training.runs import RunDirectory, RunError

    directory = RunDirectory(path)
    if directory.is_complete:
        raise RunError(f"{path} is complete; there is nothing to resume")
    return directory, directory.recipe()


def _recipe(options: argparse.Namespace) -> Recipe:
    from training.recipe import RecipeError, load_recipe

    if options.recipe is None:
        raise RecipeError("name a recipe, or a run with --resume")
    return load_recipe(options.recipe, seed=options.seed, dataset=options.dataset)
