"""`python -m analysis sink`: events from the Redis streams to Parquet."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.sink.settings import add_flags, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the Parquet tables")
    parser.add_argument("--once", action="store_true", help="write what the streams have now, then end")
    add_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Copy the streams until told to stop; returns the exit status."""
    from analysis.sink.run import run_sink  # PyArrow takes a second to import

    run_sink(load(options), options.out, once=options.once)
    return 0
