"""A process of a training of several: makes the first step's gradients, fails, or is slow.

python -m tests.support.first_step gradients DATA RECIPE OUT     the first process writes them to OUT (npz)
python -m tests.support.first_step error DATA RECIPE OUT         the last process raises an error
python -m tests.support.first_step slow DATA RECIPE OUT          the last process waits until OUT exists
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from contract.command_line import CommandError, run
from training.fitting import fit
from training.fitting.optimiser import Optimiser
from training.fitting.world import World, joined
from training.recipe import load_recipe
from training.runs import RunDirectory
from training.train import Machine, train

SLOW_MINUTES = 0.05


class ReachedError(Exception):
    """The first step is about to be taken."""


def main(mode: str, data: Path, recipe: Path, out: Path) -> int:
    with (
        joined(torch.device("cpu"), SLOW_MINUTES if mode == "slow" else 2.0) as world,
        world.folder(out.parent) as runs,
    ):
        if mode == "gradients":
            _first_step(world, data, recipe, out, runs)
        elif world.share.rank == world.size - 1:
            _misbehave(mode, out)
        world.total(1.0)
    return 0


def _misbehave(mode: str, out: Path) -> None:
    if mode == "error":
        raise CommandError("this disk is full")
    while not out.exists():
        time.sleep(0.05)


def _first_step(world: World, data: Path, recipe: Path, out: Path, runs: Path) -> None:
    class Stopping(Optimiser):
        def __init__(self, model: nn.Module, *others: Any) -> None:
            super().__init__(model, *others)
            self._model = model

        def move(self, rate: float) -> None:
            if world.is_first:
                grads = {name: one.grad for name, one in self._model.named_parameters() if one.grad is not None}
                np.savez(out, **{name: grad.to_dense().numpy() for name, grad in grads.items()})
            raise ReachedError

    fit.Optimiser = Stopping  # type: ignore[misc]
    loaded = load_recipe(recipe)
    run = RunDirectory.create(runs / "runs", loaded)
    with suppress(ReachedError):
        train(run, loaded, data, Machine("cpu", 1), Console(quiet=True), world=world)


if __name__ == "__main__":
    sys.exit(run("error", lambda: main(sys.argv[1], *map(Path, sys.argv[2:]))))
