"""The cost of a start of the service: `python -m benchmarks.load.start [CHECKOUT ...]`.

For each checkout, in turn: processor time of the service and all processes that it has started, seconds until it is
ready, and memory with each shared page divided among its processes (PSS). Two bundles of the demo are served.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from benchmarks.figures import median
from benchmarks.load.servers import ROOT, our_service, redis_server
from benchmarks.load.usage import proportional_bytes
from benchmarks.load.world import MODEL
from contract.command_line import run
from deploy.experiments import write_current

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one row for each checkout; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.start", description=__doc__)
    parser.add_argument("checkouts", type=Path, nargs="*", default=[ROOT], help="default: this one")
    parser.add_argument("--bundles", type=Path, default=ROOT / "bundles")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    return run("start", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    found: dict[Path, list[tuple[float, float, float]]] = {checkout: [] for checkout in options.checkouts}
    with tempfile.TemporaryDirectory(prefix="ranker-start-") as logs, redis_server() as url:
        for _ in range(options.rounds):
            for checkout, starts in found.items():
                starts.append(_start(checkout, url, Path(logs), options))
    print("| checkout | CPU seconds | seconds until ready | MiB |\n| --- | --- | --- | --- |")
    for checkout, starts in found.items():
        cpu, seconds, mib = (median(list(one)) for one in zip(*starts, strict=True))
        print(f"| {checkout.resolve().name} | {cpu:.2f} | {seconds:.2f} | {mib:.0f} |")
    return 0


def _start(checkout: Path, redis_url: str, logs: Path, options: argparse.Namespace) -> tuple[float, float, float]:
    experiments = logs / "experiments.yaml"
    write_current(experiments, treatment=MODEL)
    settings = {"RANKER_EXPERIMENTS__FILE": str(experiments)}
    began = time.monotonic()
    with our_service(
        checkout, redis_url=redis_url, bundles=options.bundles.resolve(), logs=logs, settings=settings
    ) as server:
        seconds, pids = time.monotonic() - began, server.pids()
        return _cpu_seconds(pids), seconds, proportional_bytes(pids) / 2**20


def _cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time of processes and of their children that have ended."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


if __name__ == "__main__":
    raise SystemExit(main())
