"""`python -m benchmarks.cold.speed BUNDLE`: processor time of 200 candidates, with new ones among them or without.

One request, and batches in which requests with new items wait beside those without. BUNDLE has graphs for new items.
The ways take turns, and each figure is a median; states are cached, as for a user who asks again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from contract.behaviours.records import Records, item_keys, records_from_columns
from contract.command_line import run
from service.bundles.bundle import Bundle, load_bundle
from service.inference.engine import OnnxEngine
from service.inference.inputs import RankRow
from service.inference.new_items import NewItem
from service.inference.scorer import Inference
from service.inference.state_cache import StateCache

_ROUNDS, _RUNS = 200, 5
_BATCH = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold.speed", description=__doc__)
    parser.add_argument("bundle", type=Path)
    options = parser.parse_args(arguments)
    return run("benchmarks.cold.speed", lambda: _measure(options.bundle))


def _measure(path: Path) -> int:
    bundle = load_bundle(path, max_bytes=1 << 31)
    inference = Inference(bundle, OnnxEngine(bundle, "cpu", threads=1), StateCache(8 * _BATCH))
    ways = _requests(bundle) | _batches(bundle)
    for rows in ways.values():
        inference.run(rows)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_ROUNDS):
        for name, rows in ways.items():
            taken[name].append(_microseconds(lambda rows=rows: inference.run(rows)) / len(rows))  # type: ignore[misc]
    print("| candidates | CPU us a request |\n| --- | --- |")
    for name, found in taken.items():
        print(f"| {name} | {np.median(found):.0f} |")
    return 0


def _requests(bundle: Bundle) -> dict[str, list[RankRow]]:
    ways = {f"{known} known, {new} new": [_row(bundle, known, new)] for known, new in ((200, 0), (180, 20), (100, 100))}
    return ways | {f"200 known, {met} behaviours on new items": [_row(bundle, 200, 0, met)] for met in (1, 10)}


def _batches(bundle: Bundle) -> dict[str, list[RankRow]]:
    """Batches of which some requests have 20 new candidates among their 200, and the others none."""
    return {
        f"batch of {_BATCH}: {cold} with 20 new": [
            _row(bundle, *((180, 20) if place < cold else (200, 0)), user=f"u{place}") for place in range(_BATCH)
        ]
        for cold in (0, 1, _BATCH)
    }


def _microseconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    for _ in range(_RUNS):
        work()
    return (time.process_time() - began) / _RUNS * 1e6


def _row(bundle: Bundle, known: int, new: int, met: int = 0, *, user: str = "u") -> RankRow:
    rng = np.random.default_rng(1)
    items = rng.choice(bundle.manifest.item_count, known, replace=False).astype(np.int64) + 1
    assert bundle.new_items is not None
    specs = bundle.new_items.spec.features
    fresh = [
        NewItem.of(rng.integers(0, one.cardinality, one.values).astype(np.int64) for one in specs)
        for _ in range(new + met)
    ]
    keys: list[int] = item_keys(_new_ids(met)).tolist()
    return RankRow(
        user, _history(bundle, met), items, 0, new=fresh[:new], met=dict(zip(keys, fresh[new:], strict=True))
    )


def _new_ids(count: int) -> list[str]:
    return [f"new item {number}" for number in range(count)]


def _history(bundle: Bundle, met: int) -> Records:
    length = bundle.manifest.sequence.length
    nothing = np.zeros(length)
    times = 1_700_000_000_000 + np.arange(length)
    keys = item_keys([*list(bundle.items.ids)[: length - met], *_new_ids(met)])
    return records_from_columns(keys, times, np.full(length, 2, np.uint8), nothing.astype(np.int64), nothing)


if __name__ == "__main__":
    sys.exit(main())
