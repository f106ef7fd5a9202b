"""fit-all: every row, newest included, with the epochs that validation chose."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from contract.command_line import STOPPED
from training.commands.machine import add_machine, add_world
from training.commands.metrics import print_metrics
from training.commands.reporters import add_reporters, reporters

if TYPE_CHECKING:  # torch takes a second to import; --help must not wait for it
    from training.fitting.world import World
    from training.runs import RunDirectory
    from training.train import Machine


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    command.add_argument("directory", type=Path, metavar="RUN", help="the run that was validated")
    command.add_argument("--from", dest="start", type=Path, metavar="RUN", help="start from the weights of this run")
    command.add_argument("--until", metavar="TIME", help="without interactions at or after this time (UTC)")
    command.add_argument("--out", type=Path, default=Path("runs"), help="folder of runs (default runs)")
    command.add_argument("--report", action="store_true", help="progress as JSON lines, for a program")
    add_reporters(command)
    add_machine(command)
    add_world(command)


def run(options: argparse.Namespace) -> int:
    """Fit all rows; returns the exit status."""
    from training.data.cut import time_of
    from training.fit_all import begin
    from training.fitting.world import joined
    from training.runs import RunDirectory
    from training.train import Machine

    until = None if options.until is None else time_of(options.until)
    machine = Machine(options.device, options.threads)
    with joined(machine.torch_device(), options.wait) as world, world.folder(options.out) as out:
        directory = begin(RunDirectory(options.directory), out, start=options.start, until_ms=until)
        with directory.discarded_unless_learnt():
            return fitted(directory, options, machine, world)


def fitted(directory: RunDirectory, options: argparse.Namespace, machine: Machine, world: World) -> int:
    """Fit a run of `training.fit_all.begin`, fresh or stopped; returns the exit status."""
    from training.fit_all import fit_all
    from training.train import StoppedError

    console = Console(highlight=False, quiet=not world.is_first)
    try:
        measured = fit_all(
            directory, options.data, machine, console,
            reporting=options.report, world=world, reporters=reporters(options, console) if world.is_first else (),
        )  # fmt: skip
    except StoppedError:
        console.print(f"\nstopped; continue with: python -m training train --resume {directory.path}", soft_wrap=True)
        return STOPPED
    if world.is_first:
        print(f"measured by the run that chose the epochs, {measured['measured_by']}:")
        print_metrics(measured, console)
        print(f"run: {directory.path}")
    return 0
