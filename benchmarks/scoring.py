"""Users per second and per CPU second of `deploy.scoring`, with and without Ray.

    python -m benchmarks.scoring bundles/sasrec/1 data/kuairand-pure/behaviours.csv --workers 0 2

The processor time is that of all processes of a run, read from /proc twice a second: the command, Ray's own processes
and its workers. `cpu_seconds_scoring` leaves out what a run over a single user takes: imports, start, loading.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.load.usage import MARK, family, usage
from contract.command_line import CommandError

_EVERY_SECONDS: Final = 0.5


def measure(python: Path, arguments: list[str], workers: int) -> dict[str, Any]:
    """Score in processes of their own; returns the figures of the summary with the processor time of all processes."""
    mark = f"scoring-{os.getpid()}-{time.monotonic_ns()}"
    environment = {**os.environ, MARK: mark, "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "lists"
        command = [str(python), "-m", "deploy.scoring", *arguments, "--out", str(out), "--workers", str(workers)]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        most: dict[int, float] = {}
        while process.poll() is None:
            for pid in family(process.pid, mark):
                most[pid] = max(most.get(pid, 0.0), usage([pid]).cpu_seconds)
            time.sleep(_EVERY_SECONDS)
        if process.returncode:
            assert process.stderr is not None
            raise CommandError(f"deploy.scoring ended with {process.returncode}", process.stderr.read()[-2_000:])
        summary: dict[str, Any] = json.loads((out / "_scoring.json").read_text(encoding="utf-8"))
    return {**summary, "cpu_seconds": round(sum(most.values()), 1)}


def main() -> None:
    """Measure; print one JSON line for each number of workers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=main.__doc__)
    parser.add_argument("bundle")
    parser.add_argument("behaviours", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--popular", default="1000")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="of an environment with ray")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        single = Path(scratch) / "one.csv"
        with options.behaviours.open(encoding="utf-8") as lines:
            single.write_text(next(lines) + next(lines), encoding="utf-8")
        for workers in options.workers:
            rest = ["--popular", options.popular]
            start = measure(options.python, [options.bundle, str(single), *rest], workers)
            told = measure(options.python, [options.bundle, str(options.behaviours), *rest], workers)
            print(json.dumps(_shown(told, start["cpu_seconds"])), flush=True)


def _shown(told: dict[str, Any], start: float) -> dict[str, Any]:
    scoring = round(told["cpu_seconds"] - start, 1)
    names = ("workers", "users", "candidates", "seconds", "cpu_seconds")
    rates = {
        "users_per_second": round(told["users"] / told["seconds"]),
        "users_per_cpu_second": round(told["users"] / told["cpu_seconds"]),
        "users_per_cpu_second_scoring": round(told["users"] / max(scoring, 0.1)),
    }
    return {name: told[name] for name in names} | {"cpu_seconds_scoring": scoring} | rates


if __name__ == "__main__":
    main()
