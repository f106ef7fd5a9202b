"""Where rankings wait as the load grows: `python -m benchmarks.load.waits`. docs/kubernetes.md scales on what it shows.

Open loop at shares of the capacity; all figures but the offered rate are means of the service's own metrics, in ms.
"""

from __future__ import annotations

import argparse
import random
import sys
import urllib.request
from collections import Counter
from collections.abc import Sequence
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load.offer import requests_of, summary
from benchmarks.load.servers import HOST, Server
from benchmarks.load.sockets import Phase, offer
from benchmarks.load.sweeps import warm
from benchmarks.load.workload import bodies
from benchmarks.load.world import NO_CACHE, World, add_options, world
from contract.command_line import run

_SHARES: Final = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5)
_DEADLINE_MS: Final = 150
_STAGES: Final = ("store", "queue", "total")
_LOOP: Final = "event loop"
_COLUMNS: Final = (_LOOP, *_STAGES)

Sums = Counter[tuple[str, str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.waits", description=__doc__)
    add_options(parser)
    parser.add_argument("--seconds", type=float, default=4.0, help="at each rate (default: 4)")
    options = parser.parse_args(arguments)
    return run("waits", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    with world(options) as place:
        for name, settings in (("on", {}), ("off", NO_CACHE)):
            with place.service(name, settings) as server:
                print(f"state cache {name}; share of capacity, offered per s, 429 per s, {', '.join(_COLUMNS)} (ms)")
                _print(place, server, options.seconds)
    return 0


def _print(place: World, server: Server, seconds: float) -> None:
    wrk = place.wrk()
    warm(server, wrk)
    capacity = sorted(wrk.run(server.url, 32, seconds / 2).rate for _ in range(3))[1]
    requests = requests_of(bodies(place.users, place.items, 200), _DEADLINE_MS)
    for share in _SHARES:
        before = _sums(server.url)
        offered = offer((HOST, server.port), requests, [Phase(share * capacity, seconds)], random.Random(1))
        sums = _sums(server.url)
        sums.subtract(before)
        found = summary(offered, 0, seconds, _DEADLINE_MS)
        means = [1000 * sums[name, "sum"] / max(sums[name, "count"], 1) for name in _COLUMNS]
        print(f"{share:g} {found['offered']:.0f} {found['refused']:.0f} {' '.join(f'{mean:.2f}' for mean in means)}")


def _sums(url: str) -> Sums:
    """Return the sum and the count of each duration."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
    found: Sums = Counter()
    for sample in (sample for family in families for sample in family.samples):
        metric, _, part = sample.name.rpartition("_")
        if metric in {"ranker_stage_duration_seconds", "ranker_event_loop_wait_seconds"} and part in {"sum", "count"}:
            found[sample.labels.get("stage", _LOOP), part] += sample.value  # type: ignore[assignment]  # floats
    return found


if __name__ == "__main__":
    sys.exit(main())
