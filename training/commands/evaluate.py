"""evaluate: the test queries of a run again, or those of a day after it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from training.commands.machine import add_machine
from training.commands.metrics import print_metrics


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    command.add_argument("directory", type=Path, metavar="RUN", help="a run directory")
    command.add_argument("--later", action="store_true", help="on the test queries of data prepared after the run")
    command.add_argument("--as", dest="like", type=Path, metavar="RUN", help="with --later: by the split of this run")
    command.add_argument("--report", action="store_true", help="with --later: the metrics as a JSON line too")
    add_machine(command)


def run(options: argparse.Namespace) -> int:
    """Evaluate the run; returns the exit status."""
    from training.later import judge_later
    from training.runs import RunDirectory
    from training.train import Machine, evaluate_run

    directory, machine = RunDirectory(options.directory), Machine(options.device, options.threads)
    if options.later:
        by = None if options.like is None else RunDirectory(options.like).recipe().split
        found = judge_later(directory, options.data, machine, by, quiet=options.report)
        print_metrics(found, Console(highlight=False))
        if options.report:
            print(json.dumps(found))
        return 0
    evaluate_run(directory, options.data, machine)
    print_metrics(directory.metrics(), Console(highlight=False))
    return 0
