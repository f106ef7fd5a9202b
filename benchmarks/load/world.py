"""The place of a measurement: a Redis with behaviours, bundles of the demo, and services that run beside it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import SERVING, medians
from benchmarks.load.servers import ROOT, our_service, redis_server
from benchmarks.load.workload import bodies, read_asked, read_histories, store
from benchmarks.load.wrk import Wrk
from contract.command_line import CommandError
from deploy.experiments import write_current
from deploy.processes import run_step

MODEL: Final = "pyramid_mixer"
CONTROL: Final = "mgnm"
NO_CACHE: Final = {"RANKER_INFERENCE__STATE_CACHE_ENTRIES": "0"}
QUICK_RESULTS: Final = ROOT / ".bench" / "quick"  # a quick run is not a result
_DATA: Final = ("ml-100k", "generated")
_DEMO: Final = ("deploy.demo", "--oneshot")
_PACKAGES: Final = ("numpy", "onnxruntime-gpu", "onnxruntime", "fastapi", "uvicorn", "uvloop", "redis", "orjson")

Figures = dict[str, float]


@dataclass(frozen=True)
class World:
    """Everything that a measurement needs."""

    folder: Path
    redis_url: str
    bundles: Path
    behaviours: Path
    users: list[str]
    items: list[str]

    def wrk(self, candidates: int = 200) -> Wrk:
        """Return a closed loop over the users and items of the behaviours file."""
        return Wrk(self.folder, bodies(self.users, self.items, candidates))

    def service(self, name: str = "ours", settings: Mapping[str, str] = {}, bundles: Path | None = None) -> Any:
        """Run this checkout's service; a context that yields its Server."""
        return our_service(
            ROOT, redis_url=self.redis_url, bundles=bundles or self.bundles, logs=self.folder, name=name,
            settings=settings,
        )  # fmt: skip

    def two_arms(self) -> dict[str, str]:
        """Return settings that serve half of the users another model."""
        file = self.folder / "experiments.yaml"
        write_current(file, treatment=MODEL)
        return {"RANKER_EXPERIMENTS__FILE": str(file)}


@contextmanager
def world(options: argparse.Namespace) -> Iterator[World]:
    """Start a Redis with the behaviours in it; makes the demo's bundles if there are none.

    Raises:
        CommandError: there are no bundles or behaviours, and the demo did not make any.
    """
    behaviours = _behaviours(options)
    users, items = read_asked(behaviours)
    bundles = _bundles(options)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ranker-bench-")))
        url = stack.enter_context(redis_server())
        store(url, read_histories(behaviours))
        yield World(folder, url, bundles, behaviours, users, items)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every benchmark takes."""
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements: does everything run?")
    parser.add_argument("--bundles", type=Path, help="folder of bundles (default: the demo's)")
    parser.add_argument("--behaviours", type=Path, help="CSV of behaviours (default: the demo's)")
    parser.add_argument("--out", type=Path, help="where results are written (default: benchmarks/results/serving)")


def results_of(options: argparse.Namespace) -> Path:
    """Return where results are written."""
    named: Path | None = options.out
    return named or (QUICK_RESULTS if options.quick else SERVING)


def _behaviours(options: argparse.Namespace) -> Path:
    if options.behaviours:
        return Path(options.behaviours).resolve()
    for _ in range(2):
        for name in _DATA:
            if (ROOT / "data" / name / "behaviours.csv").exists():
                return ROOT / "data" / name / "behaviours.csv"
        run_step(_DEMO)
    raise CommandError("the demo has prepared no behaviours file; name one with --behaviours")


def _bundles(options: argparse.Namespace) -> Path:
    bundles = Path(options.bundles or ROOT / "bundles").resolve()
    missing = [model for model in (MODEL, CONTROL) if not list((bundles / model).glob("*/manifest.json"))]
    if missing and options.bundles:
        raise CommandError(f"{bundles}: it has no bundle of {' or '.join(missing)}")
    if missing:
        run_step(_DEMO)
    return bundles


def interleaved(cases: Mapping[str, Callable[[], Figures]], rounds: int) -> dict[str, dict[str, Any]]:
    """Measure every case once in each round, in turn; returns medians and the rounds of each case."""
    found: dict[str, list[Figures]] = {name: [] for name in cases}
    for number in range(rounds):
        order = list(cases)
        for name in order if number % 2 == 0 else reversed(order):
            found[name].append(cases[name]())
    return {name: {"median": medians(values), "rounds": values} for name, values in found.items()}


def conditions() -> dict[str, Any]:
    """Return what a reader must know of the machine, the code and the command."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except ImportError:
            continue
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _git("rev-parse", "--short=12", "HEAD") + ("+" if _git("status", "--porcelain", "-uno") else ""),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "packages": packages,
        "command": shlex.join(["python", "-m", *_module(), *sys.argv[1:]]),
    }


def _module() -> list[str]:
    path = Path(sys.argv[0]).resolve()
    name = ".".join(path.with_suffix("").relative_to(ROOT).parts) if path.is_relative_to(ROOT) else path.name
    return [name.removesuffix(".__main__")]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or ("unknown" if done.returncode else "")


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write a result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, allow_nan=True) + "\n", encoding="utf-8")


def say(text: str) -> None:
    """Print a line with the time since the start."""
    print(f"[{time.monotonic() - _BEGAN:5.0f} s] {text}", flush=True)


_BEGAN: Final = time.monotonic()
