"""compare: many runs in one table."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    command.add_argument("directories", type=Path, nargs="+", metavar="RUN", help="run directories; seeds are grouped")
    command.add_argument("--part", choices=("test", "valid"), default="test", help="which queries (default test)")
    command.add_argument("--view", help="all, unseen, pop100, uni100, pool, alive, warm, cold; default: both rankings")


def run(options: argparse.Namespace) -> int:
    """Compare the runs; returns the exit status."""
    from training.compare import compare

    compare([Path(path) for path in options.directories], options.part, Console(highlight=False), options.view)
    return 0
