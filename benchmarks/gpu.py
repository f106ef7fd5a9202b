"""Does a GPU give the same scores, and how many users a second? `make gpu-check` on a machine with CUDA.

python -m benchmarks.gpu bundles/pyramid_mixer/1 bundles/mgnm/1 --out results.json

Parity first: golden rows, then random batches, against the CPU; a difference ends the command with status 1. Then speed
of `encode` and `score` together by users in a batch: `bound` is the plain path by IO binding, `captured` replays CUDA
graphs at fixed shapes. `--device cpu` runs the same code with the CPU as the device; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.command_line import CommandError, run
from contract.files import write_json
from service.bundles.bundle import Bundle, BundleError, load_bundle
from service.inference.device import Device
from service.inference.engine import EngineError, OnnxEngine

_SIZES: Final = (1, 2, 4, 8, 16, 32, 64)
_CANDIDATES: Final = 200
_COUNTS: Final = (1, 3, 200, 17)  # candidates of the users of a parity batch, in turn
_ROUNDS: Final = 5
_TOP: Final = 10
_SEED: Final = 20_262

Inputs = dict[str, NDArray[Any]]  # Any: int64 or float32


class Batch(NamedTuple):
    """Rows as the service sends them."""

    inputs: Inputs
    candidates: NDArray[np.int64]
    rows: NDArray[np.int64]


class Speed(NamedTuple):
    """One way to run batches of one size."""

    users: int
    way: str
    batch_microseconds: float
    users_per_second: float
    candidates_per_second: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and measure; return 0, or 1 after one line that names the fault."""
    options = _parser().parse_args(arguments)
    return run("benchmarks.gpu", lambda: _check(options))


def compare(bundle: Bundle, engine: OnnxEngine) -> float:
    """Return the largest difference between an engine's scores and the CPU's.

    Raises:
        CommandError: it is larger than the bundle's tolerance, or a user's best ten differ by more than that.
    """
    cpu, worst = OnnxEngine(bundle, "cpu", 1), 0.0
    for batch in _batches(bundle):
        expected, found = (
            np.asarray(one.score(one.encode(batch.inputs), batch.candidates, batch.rows)["scores"])
            for one in (cpu, engine)
        )
        worst = max(worst, _difference(bundle, batch, expected, found))
    return worst


def speeds(bundle: Bundle, engine: OnnxEngine, seconds: float) -> Iterator[Speed]:
    """Yield the speed of every batch size, both ways, each the median of some rounds of `seconds` in all."""
    random = np.random.default_rng(_SEED)
    for users in _SIZES:
        batch = _batch(bundle, random, users, [_CANDIDATES] * users)
        for way, sizes in {"bound": (), "captured": (users,)}.items():
            if engine.capture(sizes) == sizes:
                yield _speed(way, users, _timed(partial(_rank, engine, batch), seconds))
    engine.capture(())


def _rank(engine: OnnxEngine, batch: Batch) -> object:
    return engine.score(engine.encode(batch.inputs), batch.candidates, batch.rows)["scores"]


def _timed(call: Callable[[], object], seconds: float) -> float:
    """Return the seconds of a call: the median over rounds, after a warm-up."""
    for _ in range(5):
        call()
    rounds = []
    for _ in range(_ROUNDS):
        calls, began = 0, time.perf_counter()
        while calls < 3 or time.perf_counter() - began < seconds / _ROUNDS:
            call()
            calls += 1
        rounds.append((time.perf_counter() - began) / calls)
    return median(rounds)


def _speed(way: str, users: int, seconds: float) -> Speed:
    return Speed(users, way, seconds * 1e6, users / seconds, users * _CANDIDATES / seconds)


def _batches(bundle: Bundle) -> Iterator[Batch]:
    random = np.random.default_rng(_SEED)
    for users in _SIZES:
        yield _batch(bundle, random, users, [_COUNTS[place % len(_COUNTS)] for place in range(users)])


def _batch(bundle: Bundle, random: np.random.Generator, users: int, counts: Sequence[int]) -> Batch:
    """Return random users: golden rows in turn, with other items where a row has items."""
    manifest = bundle.manifest
    golden = {name: bundle.golden[f"encode.{name}"] for name in manifest.sequence.names}
    places = np.arange(users) % len(golden["items"])
    inputs = {name: np.ascontiguousarray(values[places]) for name, values in golden.items()}
    drawn = random.integers(1, manifest.item_count + 1, inputs["items"].shape)
    inputs["items"] = np.where(inputs["items"] > 0, drawn, 0)
    rows = np.repeat(np.arange(users, dtype=np.int64), counts)
    return Batch(inputs, random.integers(1, manifest.item_count + 1, len(rows)), rows)


def _difference(bundle: Bundle, batch: Batch, expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    allowed = bundle.manifest.golden_tolerance
    worst = float(np.abs(expected - found).max()) if found.shape == expected.shape else float("inf")
    if not worst <= allowed:  # NaN too
        raise CommandError(f"{bundle.name}: scores differ by {worst:.2g} from the CPU's, allowed {allowed:.2g}")
    for row in np.unique(batch.rows):
        mine = batch.rows == row
        best = np.sort(expected[mine])[::-1][:_TOP]
        chosen = expected[mine][np.argsort(-found[mine], kind="stable")[:_TOP]]
        if np.abs(best - chosen).max() > 2 * allowed:
            raise CommandError(f"{bundle.name}: another order of the best {_TOP} than the CPU's")
    return worst


def _check(options: argparse.Namespace) -> int:
    results = []
    for directory in options.bundles:
        try:
            results.append(_one(directory, options.device, options.seconds))
        except (BundleError, EngineError) as error:
            raise CommandError(str(error)) from error
    if options.out is not None:
        write_json(options.out, {"device": options.device, "candidates": _CANDIDATES, "bundles": results})
    return 0


def _one(directory: Path, device: Device, seconds: float) -> dict[str, object]:
    bundle = load_bundle(directory, max_bytes=2**40)
    engine = OnnxEngine(bundle, device, 1, binds=True)
    golden, bound = engine.verify_golden(), compare(bundle, engine)
    captured = compare(bundle, engine) if engine.capture(_SIZES) else None
    print(f"{bundle.name} on {engine.provider}: golden scores within {golden:.2g}, random batches within {bound:.2g}")
    print("  captured: " + ("these graphs cannot be captured" if captured is None else f"within {captured:.2g}"))
    found = []
    for one in speeds(bundle, engine, seconds):
        found.append(one)
        print(
            f"  {one.users:3} users {one.way:<8} {one.batch_microseconds:8.0f} us a batch "
            f"{one.users_per_second:10,.0f} users/s {one.candidates_per_second:13,.0f} candidates/s"
        )
    return {
        "bundle": bundle.name, "provider": engine.provider, "golden_difference": golden, "difference": bound,
        "captured_difference": captured, "speeds": [one._asdict() for one in found],
    }  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Check and measure bundles on a GPU.")
    parser.add_argument("bundles", nargs="+", type=Path, help="bundle directories, <model>/<version>")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu only shows that this runs")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (default: 1)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
