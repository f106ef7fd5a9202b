"""Arguments that train and evaluate share: where the data are, and what to compute on."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_machine(command: argparse.ArgumentParser) -> None:
    """Declare where the prepared data are, and what to compute on."""
    command.add_argument("--data", type=Path, default=Path("data"), help="folder of prepared data sets (default data)")
    command.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    command.add_argument("--threads", type=int, default=0, help="torch threads; 0 = torch chooses (default)")


def add_world(command: argparse.ArgumentParser) -> None:
    """Declare how the processes of torchrun wait for each other."""
    command.add_argument(
        "--wait", type=_minutes, default=30.0, metavar="MINUTES",
        help="under torchrun: a process that waits longer for another one fails (default 30)",
    )  # fmt: skip


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes <= 10_000:
        raise ValueError
    return minutes
