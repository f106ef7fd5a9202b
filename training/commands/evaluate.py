"""evaluate: the test queries of a run again."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from training.commands.machine import add_machine
from training.commands.metrics import print_metrics


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    command.add_argument("directory", type=Path, metavar="RUN", help="a run directory")
    add_machine(command)


def run(options: argparse.Namespace) -> int:
    """Evaluate the run; returns the exit status."""
    from training.runs import RunDirectory
    from training.train import Machine, evaluate_run

    directory = RunDirectory(options.directory)
    evaluate_run(directory, options.data, Machine(options.device, options.threads))
    print_metrics(directory.metrics(), Console(highlight=False))
    return 0
