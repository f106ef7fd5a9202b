"""Write the tables, pictures and README sections from results that are there: `python -m benchmarks.report`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import SERVING
from benchmarks.report.pages import refresh
from contract.command_line import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Write; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=SERVING, help="folder of peers.json and service.json")
    options = parser.parse_args(arguments)
    return run("report", lambda: _written(options.folder))


def _written(folder: Path) -> int:
    refresh(folder)
    print(f"written: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
