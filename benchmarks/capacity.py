"""How many pods a load needs: `python -m benchmarks.capacity`, a simulation from measured costs.

Costs are those of benchmarks/results/serving/service.json (`python -m benchmarks.load`). A pod has one core and is
simulated as one server that takes what has queued while it worked, as the service does: a batch of n rankings takes
a + b n, fitted to the closed loops with 1 and 32 connections. Arrivals are random (Poisson). Nothing here was measured
on a cluster.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from benchmarks.figures import SERVING, percentile
from contract.command_line import run

LOADS: Final = (1_000, 100_000)
_ROWS: Final = 64  # batching.max_rows
_RANKINGS: Final = 40_000  # of one simulation
_STEP: Final = 0.05  # between two shares of the capacity that are tried


class Cost(NamedTuple):
    """Seconds of a batch: `fixed`, and `each` for every ranking in it."""

    fixed: float
    each: float

    @property
    def capacity(self) -> float:
        """Rankings per second in batches of 32, the largest that were measured at rest."""
        return 32 / (self.fixed + 32 * self.each)


class Rules(NamedTuple):
    """The demands on a deployment."""

    p99_ms: float
    share: float  # of a core's capacity, at most
    peak: float  # the load is a mean; its peak is so many times as high
    zones: int
    surge: float  # share of pods more during a rollout


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__.partition("\n")[0])
    parser.add_argument("--p99-ms", type=float, default=10.0, help="of a ranking inside the pod (default: 10)")
    parser.add_argument("--share", type=float, default=0.6, help="of a core's capacity at most (default: 0.6)")
    parser.add_argument("--peak", type=float, default=1.0, help="peak load as a multiple of the load (default: 1)")
    parser.add_argument("--zones", type=int, default=3, help="one of which may be lost; 1: none (default: 3)")
    parser.add_argument("--surge", type=float, default=0.25, help="of a rollout (default: 0.25)")
    options = parser.parse_args(arguments)
    return run(
        "capacity", lambda: _print(Rules(options.p99_ms, options.share, options.peak, options.zones, options.surge))
    )


def costs(document: Mapping[str, Any]) -> dict[str, Cost]:
    """Return the cost of each kind of ranking that was measured."""
    modes, wide = document["modes"], document["candidates"]
    found = {
        f"200 candidates, {text}": fitted(_us(modes[f"{name}, 1"]), _us(modes[f"{name}, 32"]))
        for name, text in (("on", "states cached"), ("off", "no state cached"), ("two arms", "two arms, states cached"))
    }
    fixed = found["200 candidates, states cached"].fixed
    for count in ("50", "500", "2000"):  # measured at 32 connections only: the same fixed part
        found[f"{count} candidates, states cached"] = Cost(fixed, max(_us(wide[count]) - fixed / 32, 1e-6))
    return found


def fitted(by_itself: float, among_32: float) -> Cost:
    """Return the cost for which one ranking takes `by_itself` seconds, and each of 32 `among_32`."""
    each = (32 * among_32 - by_itself) / 31
    return Cost(by_itself - each, each)


def simulated(cost: Cost, rate: float, seed: int = 1, rankings: int = _RANKINGS) -> list[float]:
    """Return the seconds of each ranking in a pod at a mean rate of arrivals."""
    draw = random.Random(seed)
    arrivals, now = [], 0.0
    for _ in range(rankings):
        now += draw.expovariate(rate)
        arrivals.append(now)
    seconds: list[float] = []
    free, first = 0.0, 0
    while first < rankings:
        begins = max(free, arrivals[first])
        last = first
        while last < rankings and last - first < _ROWS and arrivals[last] <= begins:
            last += 1
        free = begins + cost.fixed + cost.each * (last - first)
        seconds += [free - arrival for arrival in arrivals[first:last]]
        first = last
    return seconds


def most(cost: Cost, rules: Rules, longer: float) -> float:
    """Return the highest rate of those tried at which a pod keeps its p99; NaN if it keeps it at none.

    Args:
        cost: of a ranking.
        rules: with the p99.
        longer: how many times as long as simulated a p99 is taken to be.
    """
    share = rules.share
    while share > _STEP / 2:
        if 1000 * longer * percentile(simulated(cost, share * cost.capacity), 0.99) <= rules.p99_ms:
            return share * cost.capacity
        share -= _STEP
    return math.nan


def pods(load: float, each: float, rules: Rules) -> tuple[int, int, int]:
    """Return pods for the load; with one more and without a zone; and at the same time in a rollout."""
    needed = math.ceil(load * rules.peak / each)
    spare = needed + 1
    if rules.zones > 1:  # equal zones, the rest of which must do
        spare = max(spare, rules.zones * math.ceil(needed / (rules.zones - 1)))
    return needed, spare, spare + math.ceil(spare * rules.surge)


def _print(rules: Rules) -> int:
    document = json.loads((SERVING / "service.json").read_text(encoding="utf-8"))
    found = costs(document)
    longer = _checked(document, found["200 candidates, states cached"])
    print(f"\nA p99 is taken to be {longer:.1f} times as long as simulated, the worst of these.")
    print(f"p99 at most {rules.p99_ms:g} ms, at most {rules.share:.0%} of a core, peak {rules.peak:g} x,", end=" ")
    print(f"{rules.zones} zones, surge {rules.surge:.0%}\n")
    loads = " | ".join(f"{load:,}/s: needed, to install, in a rollout" for load in LOADS)
    print(f"| Rankings | Capacity of a core, per s | Allowed, per s | {loads} |\n|{' --- |' * (3 + len(LOADS))}")
    for name, cost in found.items():
        each = most(cost, rules, longer)
        cells = ["too slow for this p99" if math.isnan(each) else _cell(load, each, rules) for load in LOADS]
        allowed = "-" if math.isnan(each) else f"{each:,.0f}"
        print(f"| {name} | {cost.capacity:,.0f} | {allowed} | {' | '.join(cells)} |")
    return 0


def _cell(load: float, each: float, rules: Rules) -> str:
    return ", ".join(f"{count:,}" for count in pods(load, each, rules))


def _checked(document: Mapping[str, Any], cost: Cost) -> float:
    """Print the simulation beside what was measured at the same rates; return the worst ratio of a p99."""
    worst = 1.0
    print("| Share of capacity | p50 simulated, ms | measured | p99 simulated, ms | measured |\n|" + " --- |" * 5)
    for share, one in document["rates"].items():
        found = simulated(cost, one["median"]["offered"])
        low, high = (1000 * percentile(found, place) for place in (0.5, 0.99))
        measured = one["median"]
        print(f"| {share} | {low:.1f} | {measured['p50_ms']:.1f} | {high:.1f} | {measured['p99_ms']:.1f} |")
        worst = max(worst, measured["p99_ms"] / high)
    return worst


def _us(case: Mapping[str, Any]) -> float:
    """Return the processor seconds of a ranking."""
    return float(case["median"]["cpu_us"]) / 1e6


if __name__ == "__main__":
    sys.exit(main())
