"""One service under load for an hour: does its memory stay, and its latency? `make soak`, or this module.

Rankings of stored users at a fixed rate, minute by minute. Memory is fitted after the tenth minute, when caches are
full; the last ten minutes' p99 is compared with the ten before the middle of the run.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from benchmarks.figures import percentile
from benchmarks.load.offer import positive, requests_of, whole
from benchmarks.load.servers import HOST, Server
from benchmarks.load.sockets import FULL, Phase, offer
from benchmarks.load.usage import proportional_bytes
from benchmarks.load.workload import bodies
from benchmarks.load.world import World, add_options, conditions, results_of, say, world, write
from contract.command_line import run

_DEADLINE_MS: Final = 150
_WARM_MINUTES: Final = 10
_MINUTE: Final = 60.0
_MIB: Final = 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.soak", description=__doc__)
    add_options(parser)
    parser.add_argument("--minutes", type=whole, default=60)
    parser.add_argument("--rate", type=positive, default=500.0, help="rankings per second")
    return run("soak", lambda: _measure(parser.parse_args(arguments)))


def _measure(options: argparse.Namespace) -> int:
    with world(options) as place, place.service("soak") as server:
        minutes = []
        for number in range(2 if options.quick else options.minutes):
            minutes.append(_minute(place, server, options.rate, 5.0 if options.quick else _MINUTE, number))
            say(f"minute {number + 1}: {minutes[-1]}")
    document = {"conditions": conditions(), "rate": options.rate, **summary(minutes), "minutes": minutes}
    write(results_of(options) / "soak.json", document)
    say({name: value for name, value in document.items() if name not in ("conditions", "minutes")}.__repr__())
    return 1 if document["unexpected"] else 0


def _minute(place: World, server: Server, rate: float, seconds: float, seed: int) -> dict[str, Any]:
    asked = requests_of(bodies(place.users, place.items, 200), _DEADLINE_MS)
    before = server.usage().cpu_seconds
    offered = offer((HOST, server.port), asked, [Phase(rate, seconds)], random.Random(seed))
    good = [1000 * one for one in offered.latencies(0, FULL)]
    return {
        "outcomes": dict(offered.counts(0)),
        "p50_ms": percentile(good, 0.5),
        "p99_ms": percentile(good, 0.99),
        "cpu_us": 1e6 * (server.usage().cpu_seconds - before) / max(1, len(offered.answers)),
        "resident_mib": server.usage().resident_bytes / _MIB,
        "proportional_mib": proportional_bytes(server.pids()) / _MIB,
    }


def summary(minutes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the totals, the slope of the memory in MiB per hour, and how the p99 moved."""
    outcomes = sum((Counter(one["outcomes"]) for one in minutes), Counter[str]())
    settled = minutes[_WARM_MINUTES:]
    sizes = [one["resident_mib"] for one in settled]
    slope = 60 * float(np.polyfit(range(len(sizes)), sizes, 1)[0]) if len(sizes) > 1 else None
    half = len(settled) // 2
    first, last = (_median_p99(part) for part in (settled[max(0, half - 10) : half], settled[-10:]))
    return {
        "requests": outcomes.total(),
        "unexpected": {name: count for name, count in outcomes.items() if name != FULL},
        "memory_mib_per_hour": slope,
        "p99_ms_first": first,
        "p99_ms_last": last,
    }


def _median_p99(minutes: Sequence[dict[str, Any]]) -> float | None:
    return float(np.median([one["p99_ms"] for one in minutes])) if minutes else None


if __name__ == "__main__":
    sys.exit(main())
