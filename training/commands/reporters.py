"""Arguments that train, fit-all and search share: who is told about a training."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.console import Console

from contract.tracking import URI_VARIABLE, tracking_uri

if TYPE_CHECKING:  # torch takes a second to import; --help must not wait for it
    from training.reporting.reporter import Reporter


def add_reporters(command: argparse.ArgumentParser) -> None:
    """Declare who is told."""
    command.add_argument("--tensorboard", action="store_true", help="an events file in the run's folder")
    command.add_argument(
        "--mlflow", metavar="URI", default=tracking_uri(),
        help=f"tracking server, or sqlite:///FILE (default: ${URI_VARIABLE})",
    )  # fmt: skip


def reporters(options: argparse.Namespace, console: Console) -> list[Reporter]:
    """Return the reporters that the options ask for; the console names those that are not installed.

    If several processes train together, only the first one has any.
    """
    if console.quiet:
        return []
    from training.reporting.chosen import chosen

    return chosen(
        lambda line: console.print(line, soft_wrap=True), tensorboard=options.tensorboard, mlflow=options.mlflow
    )
