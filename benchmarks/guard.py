"""The guard over simulated experiments: 500 without an effect, and 100 for each planted harm.

    python -m benchmarks.guard [--quick]

Writes benchmarks/results/guard.json. Users are simulated; arms come from the service's hash.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from analysis.guard.replays import assign, fixed_test_stops, planted, stopped_at, users
from contract.command_line import run
from contract.files import write_json

RESULT: Final = Path(__file__).parent / "results" / "guard.json"
HARMS: Final[dict[str, float]] = {
    "errors": 0.01, "degraded": 0.03, "latency": math.log(1.3), "dislike": 1.5, "playtime": 0.9,
}  # fmt: skip
USERS: Final = 20_000
LOOKS: Final = 50


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the replays; nothing is written")
    quick = parser.parse_args(arguments).quick
    return run("guard", lambda: _replay(25 if quick else 500, 5 if quick else 100, write=not quick))


def _replay(harmless: int, harmful: int, *, write: bool) -> int:
    looks = [USERS * (place + 1) // LOOKS for place in range(LOOKS)]
    document: dict[str, Any] = {
        "command": "python -m benchmarks.guard", "data": "simulated users; arms by the service's hash",
        "users": USERS, "looks": LOOKS, "alpha": 0.05,
        "no effect": _harmless(harmless, looks), "planted": {name: _harmful(harmful, looks, name) for name in HARMS},
    }  # fmt: skip
    for name in ("no effect", "planted"):
        print(f"{name}: {document[name]}")
    if write:
        write_json(RESULT, document)
    return 0


def _harmless(replays: int, looks: list[int]) -> dict[str, Any]:
    values = users(USERS, 1)
    stops: Counter[str] = Counter()
    for replay in range(replays):
        treated = assign(USERS, f"guard-{replay}")
        stops["stopped"] += stopped_at(values, treated, looks) is not None
        stops["stopped without an allowance"] += stopped_at(values, treated, looks, strict=True) is not None
        stops["stopped by a test for one reading"] += fixed_test_stops(values, treated, looks)
    return {"replays": replays, **{name: stops[name] / replays for name in stops}}


def _harmful(replays: int, looks: list[int], name: str) -> dict[str, Any]:
    values = users(USERS, 2)
    found = []
    for replay in range(replays):
        treated = assign(USERS, f"harm-{name}-{replay}")
        stop = stopped_at(planted(values, treated, {name: HARMS[name]}, replay), treated, looks)
        if stop is not None and name in stop[1]:
            found.append(stop[0])
    median = statistics.median(found) if found else None
    return {"harm": round(HARMS[name], 4), "replays": replays, "stopped": len(found) / replays, "median users": median}


if __name__ == "__main__":
    sys.exit(main())
