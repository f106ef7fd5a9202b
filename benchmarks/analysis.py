"""Time and memory of `python -m analysis report` on simulated users: `python -m benchmarks.analysis`.

The data are written first, unless they are there: 10 million events of 100,000 users over 28 days, 310 MB. Each line is
one run of the whole command in a process of its own. Processor time is useful on a busy machine too; wall time needs
idle cores. The digests of the reports must be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

from analysis.commands.options import positive
from analysis.synthetic.files import write_synthetic
from analysis.synthetic.population import Effect, Population
from contract.command_line import CommandError, run
from contract.files import write_whole

_EFFECTS: Final = {"control": Effect(), "treatment": Effect(watching=0.03)}
_SHARES: Final = "control=5000,treatment=5000"
_RESULT: Final = Path("benchmarks/results/analysis/report.json")
_EVENTS_FILE: Final = "EVENTS"


@dataclass(frozen=True)
class Run:
    """One run of the command."""

    threads: int
    memory: str
    wall_s: float
    cpu_s: float
    peak_mb: float
    load: float  # processes that want a core, mean of the last minute, before the run
    digest: str  # of the three files that it wrote


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a line per run, and write them to a file."""
    options = _parser().parse_args(arguments)
    return run("error", lambda: _measure(options, sys.argv if arguments is None else arguments))


def _measure(options: argparse.Namespace, command: list[str]) -> int:
    events = _prepared(options.data, options.users)
    runs: list[Run] = []
    for threads, memory in [(threads, memory) for memory in options.memory for threads in options.threads]:
        runs.append(_run(options.data, threads, memory))
        sys.stdout.write(_line(runs[-1]) + "\n")
    same = len({one.digest for one in runs}) == 1
    sys.stdout.write(f"{events:,} events; the reports are {'equal' if same else 'NOT equal'}\n")
    result: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.analysis", *command[1:]]), "events": events, "users": options.users,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version(),
        "duckdb": version("duckdb"), "equal": same, "runs": [asdict(one) for one in runs],
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.out, (json.dumps(result, indent=2) + "\n").encode())
    return 0 if same else 1


def _prepared(folder: Path, users: int) -> int:
    """Return the number of events of the data, which are written if they are not there."""
    told = folder / _EVENTS_FILE
    if not told.exists():
        if folder.exists():
            raise CommandError(f"{folder} has no {_EVENTS_FILE}: delete it, or name another with --data")
        sys.stderr.write(f"writing {users:,} users to {folder}\n")
        population = Population(users, seed=1, effects=_EFFECTS)
        told.write_text(f"{users} {write_synthetic(population, folder)}\n")
    numbers = told.read_text().split()
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise CommandError(f"{told}: damaged: delete {folder}, or name another with --data")
    found, events = (int(number) for number in numbers)
    if found != users:
        raise CommandError(f"{folder} has {found:,} users; name another folder with --data")
    return events


def _run(data: Path, threads: int, memory: str) -> Run:
    out = data / "report"
    command = [
        sys.executable, "-m", "analysis", "report", "simulated", "--data", str(data), "--out", str(out),
        "--shares", _SHARES, "--threads", str(threads), "--memory", memory,
    ]  # fmt: skip
    load, began = os.getloadavg()[0], time.perf_counter()
    with Popen(command) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode:
        raise CommandError(f"the report failed with status {process.returncode}")
    digest = sha256(b"".join((out / f"report.{kind}").read_bytes() for kind in ("json", "md", "html"))).hexdigest()
    cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
    return Run(threads, memory, round(wall, 1), round(cpu, 1), round(peak), round(load, 1), digest[:16])


def _line(one: Run) -> str:
    return (
        f"{one.threads} threads, {one.memory}: {one.wall_s:.1f} s, {one.cpu_s:.1f} CPU s, {one.peak_mb:.0f} MB, "
        f"load {one.load}, {one.digest}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.analysis", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(".bench/analysis"), help="folder of the data")
    parser.add_argument("--users", type=positive, default=100_000, help="users to write (default 100,000)")
    parser.add_argument("--threads", type=positive, nargs="+", default=[2, 1], help="threads of each run")
    parser.add_argument("--memory", nargs="+", default=["1600MB"], help="memory of each run")
    parser.add_argument("--out", type=Path, default=_RESULT, help="file of the result")
    return parser


if __name__ == "__main__":
    sys.exit(main())
