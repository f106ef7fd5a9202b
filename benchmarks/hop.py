"""Where a batch should run: inside the event loop's thread, or in a thread of its own?

python -m benchmarks.hop bundles/pyramid_mixer/1

Three ways under uvloop, interleaved, for batches of 1 to 64 users with 200 candidates, states cached or not:
`inline` calls the engine in the loop's thread; `thread` hands the batch to another thread and waits for it; `overlap`
keeps two batches on their way, so that the loop works on one while the other runs. Each batch also costs the loop work
in Python: the bodies of its requests are parsed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import numpy as np
import uvloop
from numpy.typing import NDArray

from contract.command_line import CommandError, run
from service.bundles.bundle import Bundle, BundleError, load_bundle
from service.flow.threads import DaemonThreads
from service.inference.engine import EngineError, OnnxEngine

_CANDIDATES: Final = 200
_SIZES: Final = (1, 2, 4, 8, 16, 64)
_ROUNDS: Final = 7
_ROUND_SECONDS: Final = 0.2

Work = Callable[[], object]
Way = Callable[["Batch", DaemonThreads, int], Awaitable[None]]


class Batch(NamedTuple):
    """The costs of a batch: Python in the loop, and a run of the engine."""

    parse: Work
    infer: Work


class Cost(NamedTuple):
    """Microseconds a batch: by the clock, and of processor time of all threads."""

    clock: float
    processor: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the costs; return 0, or 1 after one line with the reason."""
    options = _parser().parse_args(arguments)
    return run("benchmarks.hop", lambda: _print(options))


async def inline(batch: Batch, _threads: DaemonThreads, count: int) -> None:
    """Run batches one after another in the loop's thread."""
    for _ in range(count):
        batch.parse()
        batch.infer()
        await asyncio.sleep(0)


async def thread(batch: Batch, threads: DaemonThreads, count: int) -> None:
    """Run batches one after another in a thread of their own."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        batch.parse()
        await loop.run_in_executor(threads, batch.infer)


async def overlap(batch: Batch, threads: DaemonThreads, count: int) -> None:
    """Run batches in a thread of their own while the loop parses the next ones."""
    await asyncio.gather(thread(batch, threads, (count + 1) // 2), thread(batch, threads, count // 2))


_WAYS: Final[tuple[Way, ...]] = (inline, thread, overlap)


async def measure(batch: Batch) -> dict[str, Cost]:
    """Return what a batch costs each way, medians of interleaved rounds."""
    threads = DaemonThreads(1, "inference")
    began = time.perf_counter()
    await inline(batch, threads, 3)
    count = max(2, round(_ROUND_SECONDS / ((time.perf_counter() - began) / 3)))
    found: dict[str, list[Cost]] = {way.__name__: [] for way in _WAYS}
    for _ in range(_ROUNDS):
        for way in _WAYS:
            clock, processor = time.perf_counter(), _processor_seconds()
            await way(batch, threads, count)
            spent = Cost(time.perf_counter() - clock, _processor_seconds() - processor)
            found[way.__name__].append(Cost(*(value / count * 1e6 for value in spent)))
    threads.shutdown()
    return {name: Cost(*map(median, zip(*costs, strict=True))) for name, costs in found.items()}


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _batch(bundle: Bundle, engine: OnnxEngine, size: int, *, cached: bool) -> Batch:
    random, items = np.random.default_rng(size), bundle.manifest.item_count
    golden = {name: bundle.golden[f"encode.{name}"] for name in bundle.manifest.sequence.names}
    longest = int((golden["items"] > 0).sum(axis=1).argmax())
    inputs: dict[str, NDArray[Any]] = {name: np.repeat(rows[[longest]], size, axis=0) for name, rows in golden.items()}
    candidates = random.integers(1, items + 1, size * _CANDIDATES)
    rows = np.repeat(np.arange(size), _CANDIDATES)
    kept = engine.encode(inputs)
    body = json.dumps({"user_id": "u", "candidates": [f"item-{index}" for index in candidates[:_CANDIDATES]]}).encode()

    def infer() -> object:
        encoded = kept if cached else engine.encode(inputs)
        return engine.score({name: encoded[name] for name in bundle.manifest.state}, candidates, rows)

    return Batch(lambda: [json.loads(body) for _ in range(size)], infer)


def _print(options: argparse.Namespace) -> int:
    try:
        bundle = load_bundle(options.bundle, max_bytes=2**40)
        engine = OnnxEngine(bundle, "cpu", 1)
    except (BundleError, EngineError) as error:
        raise CommandError(str(error)) from error
    print(f"{bundle.name}: microseconds a batch, clock / processor")
    for cached in (True, False):
        for size in _SIZES:
            costs = uvloop.run(measure(_batch(bundle, engine, size, cached=cached)))
            cells = "  ".join(f"{name} {cost.clock:7.0f} / {cost.processor:7.0f}" for name, cost in costs.items())
            print(f"{'cached ' if cached else 'encoded'} {size:3} users: {cells}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hop", description="Compare where a batch may run.")
    parser.add_argument("bundle", type=Path, help="bundle directory, <model>/<version>")
    return parser


if __name__ == "__main__":
    sys.exit(main())
