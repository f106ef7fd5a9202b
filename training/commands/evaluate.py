"""evaluate: the test queries of a run again."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.commands.machine import add_machine, shown


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    command.add_argument("directory", type=Path, metavar="RUN", help="a run directory")
    add_machine(command)


def run(options: argparse.Namespace) -> int:
    """Evaluate the run; returns the exit status."""
    from training.runs import RunDirectory
    from training.train import Machine, evaluate_run

    metrics = evaluate_run(RunDirectory(options.directory), options.data, Machine(options.device, options.threads))
    print(f"test: {shown(metrics)}")
    return 0
