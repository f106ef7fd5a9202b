"""Overload: more than the service can answer, from callers who do not wait for each other.

The machine's speed changes within minutes, so the capacity is measured again right before each case, and cases are
compared by their share of it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.figures import median, medians, percentile, ratio
from benchmarks.load.offer import recovery_seconds, requests_of, summary
from benchmarks.load.servers import HOST, Server
from benchmarks.load.sockets import Phase, offer
from benchmarks.load.sweeps import Plan, warm
from benchmarks.load.workload import bodies
from benchmarks.load.world import Figures, World

DEADLINE_MS: Final = 50
BELOW: Final = ("0.5", "0.7", "0.8", "0.9")  # shares of the capacity
BEYOND: Final = ("1", "2", "5", "10")
_CALM: Final = 0.5  # of the capacity, after an overload
_CALM_SECONDS: Final = 3

Found = dict[str, Any]  # Any: JSON
Round = Mapping[str, Mapping[str, float]]  # by factor


def overload(place: World, server: Server, plan: Plan) -> Found:
    """Open loop around and beyond the capacity, with a deadline of 50 ms: goodput, refusals, and the time after it."""
    requests = requests_of(bodies(place.users, place.items, 200), DEADLINE_MS)
    wrk = place.wrk()
    warm(server, wrk)

    def case(factor: str) -> Figures:
        capacity = wrk.run(server.url, 32, plan.seconds / 2).rate
        return {"capacity": capacity, **_offered(server, requests, float(factor) * capacity, _CALM * capacity, plan)}

    rounds: list[Round] = []
    for number in range(plan.rounds):
        order = [*BELOW, *BEYOND][:: 1 if number % 2 == 0 else -1]
        rounds.append({factor: case(factor) for factor in order})
    return figures_of(rounds)


def figures_of(rounds: Sequence[Round]) -> Found:
    """Return medians of each case, and of the figures that have bars."""
    factors: Found = {
        name: {"median": medians([one[name] for one in rounds]), "rounds": [one[name] for one in rounds]}
        for name in (*BELOW, *BEYOND)
    }
    return {
        "capacity": median([figures["capacity"] for one in rounds for figures in one.values()]),
        "deadline_ms": DEADLINE_MS,
        "factors": factors,
        "share_of_peak": {name: median([_share_of_peak(one, name) for one in rounds]) for name in factors},
        "refused_below": 1000 * median([ratio(one["0.9"]["refused"], one["0.9"]["offered"]) for one in rounds]),
        "recovery_seconds": factors["10"]["median"]["recovery_seconds"],
    }


def _share_of_peak(one: Round, name: str) -> float:
    goodputs = {factor: ratio(figures["goodput"], figures["capacity"]) for factor, figures in one.items()}
    return ratio(goodputs[name], max(goodputs.values()))


def _offered(server: Server, requests: list[bytes], rate: float, calm_rate: float, plan: Plan) -> Figures:
    phases = [Phase(rate, plan.open_seconds), Phase(calm_rate, _CALM_SECONDS)]
    offered = offer((HOST, server.port), requests, phases, random.Random(1))
    refusals = offered.latencies(0, "429")
    return {
        **summary(offered, 0, plan.open_seconds, DEADLINE_MS),
        "refused_p50_ms": 1000 * percentile(refusals, 0.5),
        "refused_p99_ms": 1000 * percentile(refusals, 0.99),
        "unsent": offered.counts(0)["no connection"] / plan.open_seconds,
        "recovery_seconds": recovery_seconds(offered, 1, DEADLINE_MS),
    }
