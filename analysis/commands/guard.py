"""`python -m analysis guard`: stop running experiments that do harm."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from pathlib import Path

from analysis.commands.options import duration, positive
from analysis.sink.log import log
from contract.command_line import CommandError, one_line


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
    parser.add_argument(
        "--settle", type=duration, default=600_000, help="after its window, before a unit counts (default 10m)"
    )
    parser.add_argument("--metrics-host", default="127.0.0.1", help="address of the port for Prometheus")
    parser.add_argument("--metrics-port", type=positive, help="port for Prometheus (default: none)")
    parser.add_argument("--until", type=positive, help="time of the reading (ms since epoch; default: now)")
    parser.add_argument("--dry-run", action="store_true", help="only log what would be stopped")


def run(options: argparse.Namespace) -> int:
    """Read once, or again and again; returns the exit status.

    A guard that reads again and again must not end because of one file that is being written. SIGTERM ends it after
    the reading that is under way.
    """
    from analysis.guard.metrics import Metrics
    from analysis.guard.run import Rules, read_once  # DuckDB takes a second to import

    rules = Rules(options.window, options.planned, options.alpha, options.settle, options.dry_run)
    metrics = Metrics()
    if options.metrics_port:
        metrics.serve(options.metrics_host, options.metrics_port)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    while not stopped.is_set():
        now_ms = options.until or int(time.time() * 1000)
        try:
            read_once(options.data, options.experiments, rules, now_ms, metrics)
            metrics.read("done")
        except (CommandError, OSError) as error:
            if options.every is None:
                raise
            metrics.read("failed")
            log("guard_failed", "error", reason=one_line(str(error)))
        if options.every is None:
            return 0
        stopped.wait(options.every / 1000)
    return 0


def _share(text: str) -> float:
    """Return a chance between 0 and 1, both left out."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
