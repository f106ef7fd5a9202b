"""search: many trials around a recipe, and the best recipe."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from contract.command_line import STOPPED, CommandError
from training.commands.machine import add_machine
from training.commands.reporters import add_reporters, reporters

if TYPE_CHECKING:  # torch takes a second to import; --help must not wait for it
    from training.search.budget import Budget
    from training.search.run import Found, Search


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    command.add_argument("recipe", type=Path, nargs="?", help="a recipe: training/recipes/<data set>/<model>.toml")
    command.add_argument("--trials", type=int, metavar="N", help="in all (default 20, unless another limit is given)")
    command.add_argument("--rows", type=int, metavar="N", help="training rows of all trials together, at most")
    command.add_argument("--cpu-seconds", type=float, metavar="S", help="processor time of all trials, at most")
    command.add_argument("--space", type=Path, metavar="FILE", help="TOML with [space] (default: that of the recipe)")
    command.add_argument("--resume", type=Path, metavar="SEARCH", help="go on with a search; limits given count in all")
    command.add_argument("--out", type=Path, default=Path("runs"), help="folder of runs (default runs)")
    command.add_argument("--seed", type=int, help="instead of the recipe's own")
    command.add_argument("--dataset", metavar="NAME", help="a prepared data set, instead of the recipe's own")
    add_reporters(command)
    add_machine(command)


def run(options: argparse.Namespace) -> int:
    """Search; returns the exit status."""
    if find_spec("optuna") is None:
        raise CommandError("search needs Optuna, of the extra search: pip install optuna")
    from training.search.run import search
    from training.search.trial import Place
    from training.train import Machine, StoppedError

    console = Console(highlight=False)
    begun = _begun(options)
    machine = Machine(options.device, options.threads)
    place = Place(begun.folder, options.data, machine, lambda: reporters(options, Console(quiet=True)))
    console.print(f"search: {begun.folder}", soft_wrap=True)
    try:
        found = search(begun, place, console)
    except StoppedError:
        console.print(f"\nstopped; continue with: python -m training search --resume {begun.folder}", soft_wrap=True)
        return STOPPED
    _print(begun, found, console)
    return 0


def _begun(options: argparse.Namespace) -> Search:
    from training.recipe import RecipeError, load_recipe
    from training.search.run import Search
    from training.search.values import space_of

    budget = _budget(options)
    if options.resume is not None:
        return Search.read(options.resume, budget)
    if options.recipe is None:
        raise RecipeError("name a recipe, or a search with --resume")
    from training.search.budget import Budget

    recipe = load_recipe(options.recipe, seed=options.seed, dataset=options.dataset)
    return Search.begin(options.out, recipe, space_of(recipe, options.space), budget or Budget.given(None, None, None))


def _budget(options: argparse.Namespace) -> Budget | None:
    """Return the limits that are given, or None.

    Raises:
        CommandError: one is not above 0.
    """
    from training.search.budget import Budget

    limits = {"--trials": options.trials, "--rows": options.rows, "--cpu-seconds": options.cpu_seconds}
    for name, limit in limits.items():
        if limit is not None and limit <= 0:
            raise CommandError(f"{name}: {limit:g} is not above 0")
    if all(limit is None for limit in limits.values()):
        return None
    return Budget.given(options.trials, options.rows, options.cpu_seconds)


def _print(begun: Search, found: Found, console: Console) -> None:
    from training.search.run import BEST, draw_trials

    spent = found.spent
    lines = [
        f"best: trial {found.number}, {found.metric.upper()} {found.value:.4f} on validation",
        f"spent: {spent.trials:g} trials, {spent.rows:,} rows, {spent.cpu_seconds:,.0f} CPU s",
        f"picture: {draw_trials(begun)}",
        f"train it: python -m training train {begun.folder / BEST}",
    ]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
