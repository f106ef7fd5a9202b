"""The cost of bundles: seconds to load, resident memory step by step, and microseconds of one user's two runs.

python -m benchmarks.footprint bundles/pyramid_mixer/1000000 --processes 2

Each process loads the bundle as the service does. `shared` is memory that the kernel has once for all processes which
map the same file; `own` is the rest. Candidates and histories are drawn evenly from the whole catalogue, the worst case
for caches.
"""

from __future__ import annotations

import argparse
import gc
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple, TypeVar

import numpy as np

from contract.bundle.manifest import Manifest
from contract.command_line import CommandError, run
from service.bundles.bundle import BundleError, load_bundle
from service.inference.engine import EngineError, OnnxEngine

T = TypeVar("T")

_KIND: Final = re.compile(r"(Pss_Anon|Rss):\s+(\d+) kB")
_CANDIDATES: Final = 200
_RUNS: Final = 2_000
_SEED: Final = 1


class Memory(NamedTuple):
    """Resident memory of a process, MiB."""

    all: float
    own: float  # anonymous
    shared: float  # mapped files, which each process counts


class Footprint(NamedTuple):
    """The measurements of one process."""

    start: Memory
    bundle: Memory
    engine: Memory
    bundle_seconds: float
    engine_seconds: float
    table_mib: float
    run_microseconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the cost of bundles; return 0, or 1 after printing one line with the reason."""
    options = _parser().parse_args(arguments)
    return run("benchmarks.footprint", lambda: _print(options))


def measure(directory: Path, threads: int) -> Footprint:
    """Load a bundle in this process and run it.

    Raises:
        CommandError: it cannot be served.
    """
    start = _memory()
    try:
        bundle, bundle_seconds = _timed(lambda: load_bundle(directory, max_bytes=2**40))
        loaded = _memory()
        engine, engine_seconds = _timed(lambda: OnnxEngine(bundle, "cpu", threads))
        engine.verify_golden()
    except (BundleError, EngineError) as error:
        raise CommandError(str(error)) from error
    microseconds = median(_runs(engine, bundle.manifest)) * 1e6
    tables = sum(table.nbytes for table in bundle.tables.arrays.values()) / 2**20
    return Footprint(start, loaded, _memory(), bundle_seconds, engine_seconds, tables, microseconds)


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began


def _runs(engine: OnnxEngine, manifest: Manifest) -> list[float]:
    """Return the seconds of an `encode` and a `score`, for random users one after another."""
    items, length, random = manifest.item_count, manifest.sequence.length, np.random.default_rng(_SEED)
    rows = np.zeros(_CANDIDATES, dtype=np.int64)
    seconds = []
    for _ in range(_RUNS):
        history, candidates = random.integers(1, items + 1, (1, length)), random.integers(1, items + 1, _CANDIDATES)
        began = time.perf_counter()
        encoded = engine.encode({"items": history})
        engine.score({name: encoded[name] for name in manifest.state}, candidates, rows)
        seconds.append(time.perf_counter() - began)
    return seconds


def _memory() -> Memory:
    gc.collect()
    kib = {name: int(size) for name, size in _KIND.findall(Path("/proc/self/smaps_rollup").read_text("ascii"))}
    own = kib["Pss_Anon"] / 1024
    return Memory(kib["Rss"] / 1024, own, kib["Rss"] / 1024 - own)


def _print(options: argparse.Namespace) -> int:
    for directory in options.bundles:
        with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
            found = list(pool.map(measure, [directory] * options.processes, [options.threads] * options.processes))
        print(f"{directory}, {options.processes} processes")
        for place, one in enumerate(found):
            print(f"  process {place}: bundle {one.bundle_seconds:.2f} s, engine {one.engine_seconds:.2f} s, ", end="")
            print(f"{one.run_microseconds:.0f} us a user; tables {one.table_mib:.0f} MiB")
            for step in ("start", "bundle", "engine"):
                memory = getattr(one, step)
                print(f"    {step:<7} {memory.all:6.0f} MiB = own {memory.own:.0f} + shared {memory.shared:.0f}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description="Print what bundles cost.")
    parser.add_argument("bundles", nargs="+", type=Path, help="bundle directories, <model>/<version>")
    parser.add_argument("--processes", type=int, default=1, help="that load each bundle at once (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="of one run (default: 1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
