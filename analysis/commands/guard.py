"""`python -m analysis guard`: stop running experiments that do harm."""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

from analysis.commands.options import duration, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--data", type=Path, required=True, help="folder that the sink writes")
    parser.add_argument("--experiments", type=Path, required=True, help="experiments file that the service reads")
    parser.add_argument("--window", type=duration, default=86_400_000, help="of each unit, as 1d or 2h (default 1d)")
    parser.add_argument("--planned", type=positive, default=10_000, help="units at which the test is sharpest")
    parser.add_argument(
        "--alpha", type=_share, default=0.05, help="chance to stop a harmless experiment (default 0.05)"
    )
    parser.add_argument("--every", type=duration, help="read again after so long, as 10m (default: read once)")
    parser.add_argument("--until", type=positive, help="time of the reading (ms since epoch; default: now)")
    parser.add_argument("--dry-run", action="store_true", help="only log what would be stopped")


def run(options: argparse.Namespace) -> int:
    """Read once, or again and again; returns the exit status."""
    from analysis.guard.run import read_once  # DuckDB takes a second to import

    pause = threading.Event()
    while True:
        now_ms = options.until or int(time.time() * 1000)
        read_once(
            options.data, options.experiments, window_ms=options.window, now_ms=now_ms, planned=options.planned,
            alpha=options.alpha, dry_run=options.dry_run,
        )  # fmt: skip
        if options.every is None:
            return 0
        pause.wait(options.every / 1000)


def _share(text: str) -> float:
    """Return a chance between 0 and 1, both left out."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
