"""`python -m analysis compact`: one file for each past day."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.sink.log import log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the Parquet tables")


def run(options: argparse.Namespace) -> int:
    """Merge the small files of past days; returns the exit status."""
    from analysis.sink.compaction import compact  # DuckDB takes a second to import
    from analysis.tables.database import Resources

    for merged in compact(options.out, Resources()):
        log("compacted", file=str(merged.path), files=merged.files, rows=merged.rows)
    return 0
