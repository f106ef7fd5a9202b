"""Arguments that train and evaluate share: where the data are, and what to compute on."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_machine(command: argparse.ArgumentParser) -> None:
    """Declare where the prepared data are, and what to compute on."""
    command.add_argument("--data", type=Path, default=Path("data"), help="folder of prepared data sets (default data)")
    command.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    command.add_argument("--threads", type=int, default=0, help="torch threads; 0 = torch chooses (default)")
