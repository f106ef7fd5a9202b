"""Measurements of the service: one function for each question, each returning figures for a JSON file."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.figures import median, percentile
from benchmarks.load.offer import requests_of, summary
from benchmarks.load.servers import HOST, Server, measure
from benchmarks.load.sockets import Phase, offer
from benchmarks.load.usage import proportional_bytes
from benchmarks.load.workload import bodies, made_histories, store
from benchmarks.load.world import Figures, World, interleaved
from benchmarks.load.wrk import Wrk

Found = dict[str, Any]  # Any: JSON
CONNECTIONS: Final = (1, 2, 4, 8, 16, 32, 64)
HISTORIES: Final = (0, 50, 200)
SHARES: Final = (0.25, 0.5, 0.75, 0.9)  # of the capacity, in the rate sweep
_HISTORY_USERS: Final = 500
_ASKED_ALONE: Final = 400


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int = 3
    seconds: float = 3.0
    open_seconds: float = 4.0
    new_users: int = 300_000
    million: int = 1_000_000


QUICK: Final = Plan(rounds=1, seconds=1.0, open_seconds=1.0, new_users=10_000, million=20_000)


def warm(server: Server, wrk: Wrk, seconds: float = 2.0) -> None:
    """Let a service see every user once."""
    wrk.run(server.url, 32, seconds)


def connections(place: World, server: Server, plan: Plan) -> Found:
    """Closed loop: how throughput and latency grow with connections."""
    wrk = place.wrk()
    warm(server, wrk)
    return interleaved(
        {str(count): _closed(server, wrk, count, plan.seconds) for count in CONNECTIONS}, plan.rounds
    )  # fmt: skip


def modes(place: World, servers: Mapping[str, Server], plan: Plan) -> Found:
    """Closed loop: state cache on and off, one arm and two, one process and two."""
    wrk = place.wrk()
    cases: dict[str, Callable[[], Figures]] = {}
    for name, server in servers.items():
        warm(server, wrk)
        cases |= {f"{name}, {count}": _closed(server, wrk, count, plan.seconds) for count in (1, 32)}
    return interleaved(cases, plan.rounds)


def candidates(place: World, server: Server, items: list[str], users: list[str], plan: Plan) -> Found:
    """Closed loop at 32 connections: what candidates cost."""
    cases = {}
    for count in (50, 200, 500, 2_000):
        wrk = Wrk(place.folder, bodies(users, items, count, count=500))
        warm(server, wrk, 1)
        cases[str(count)] = _closed(server, wrk, 32, plan.seconds)
    return interleaved(cases, plan.rounds)


def histories(place: World, servers: Mapping[str, Server], plan: Plan) -> Found:
    """Closed loop at 32 connections: what stored behaviours cost, with the state cache on and off."""
    cases = {}
    for length in HISTORIES:
        users = [f"history-{length}-{number}" for number in range(_HISTORY_USERS)]
        store(place.redis_url, made_histories(users, place.items, length))
        wrk = Wrk(place.folder, bodies(users, place.items, 200, count=_HISTORY_USERS))
        for name, server in servers.items():
            warm(server, wrk, 1)
            cases[f"{length} {name}"] = _closed(server, wrk, 32, plan.seconds)
    return interleaved(cases, plan.rounds)


def catalogue(place: World, made: Mapping[int, Any], plan: Plan) -> Found:
    """Closed loop at 32 connections: what a larger catalogue costs in time, memory and at the start.

    Args:
        place: where.
        made: by number of items, a folder of bundles with a catalogue of that size, and its table's bytes.
        plan: how much.
    """
    cases: dict[str, Callable[[], Figures]] = {}
    servers: dict[str, Server] = {}
    extra: dict[str, Found] = {}
    with ExitStack() as stack:
        for count, (bundles, table_bytes) in made.items():
            items = [f"item-{number}" for number in range(1, count + 1)]
            users = [f"catalogue-{count}-{number}" for number in range(_HISTORY_USERS)]
            store(place.redis_url, made_histories(users, items, 50))
            began = time.monotonic()
            server = stack.enter_context(place.service(f"items-{count}", bundles=bundles))
            extra[str(count)] = {"start_seconds": time.monotonic() - began, "table_mib": table_bytes / 2**20}
            wrk = Wrk(place.folder, bodies(users, items, 200))
            warm(server, wrk)
            cases[str(count)] = _closed(server, wrk, 32, plan.seconds)
            servers[str(count)] = server
        found = interleaved(cases, plan.rounds)
        smallest = str(min(made))
        for name, server in servers.items():
            extra[name]["proportional_mib"] = proportional_bytes(server.pids()) / 2**20
        for name, one in extra.items():
            added = one["proportional_mib"] - extra[smallest]["proportional_mib"]
            found[name] |= {**one, "tables_added": added / one["table_mib"] if name != smallest else None}
        return found


def rates(place: World, server: Server, capacity: float, plan: Plan) -> Found:
    """Open loop below the capacity: latency at a fixed offered rate."""
    requests = requests_of(bodies(place.users, place.items, 200), 150)

    def at(share: float) -> Callable[[], Figures]:
        return lambda: _offered(server, requests, [Phase(share * capacity, plan.open_seconds)], 150)[0]

    return interleaved({f"{share:g}": at(share) for share in SHARES}, plan.rounds)


def stages(place: World, server: Server, capacity: float, plan: Plan) -> Found:
    """Return how long each stage takes, from Server-Timing: one request at a time, and at half of the capacity."""
    asked = bodies(place.users, place.items, 200)
    offered = offer(
        (HOST, server.port), requests_of(asked, 150), [Phase(capacity / 2, plan.open_seconds)], random.Random(1)
    )
    return {"one at a time": _split(_alone(server, asked)), "half of the capacity": _split(offered.heads)}


def memory(place: World, server: Server, plan: Plan) -> Found:
    """Closed loop at 32 connections, every request for a new user with a history of its own: does memory stay?"""
    prefix = "new-user-"
    for start in range(0, plan.new_users * 3 // 2, 50_000):
        users = [f"{prefix}{number:07d}" for number in range(start, start + 50_000)]
        store(place.redis_url, made_histories(users, place.items, 10, seed=start))
    wrk = Wrk(place.folder, bodies([f"{prefix}0000000"], place.items, 200, count=200))
    samples, answered, first = [], 0, 0
    while answered < plan.new_users:
        closed = wrk.run_new_users(server.url, 32, min(5.0, 2 * plan.seconds), prefix, first)
        answered += closed.requests
        first += closed.requests + closed.refused + 32  # those under way at the end were asked too
        samples.append((answered, server.usage().resident_bytes / 2**20))
    return {"samples": samples, "requests": answered, **grown(samples)}


def grown(samples: list[tuple[int, float]]) -> Figures:
    """Return how much the last quarter of requests has more than the third: the first half fills caches."""
    requests = samples[-1][0]
    third = median([size for asked, size in samples if requests / 2 < asked <= requests * 3 / 4])
    last = median([size for asked, size in samples if asked > requests * 3 / 4])
    return {"third_quarter_mib": third, "last_quarter_mib": last, "grown_percent": 100 * (last - third) / third}


def timings(head: bytes) -> Figures:
    """Return the durations in ms of a Server-Timing header."""
    line = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"server-timing:")), b"")
    parts = (part.strip().split(b";dur=") for part in line.partition(b":")[2].split(b","))
    return {part[0].decode(): float(part[1]) for part in parts if len(part) == 2}


def _split(heads: list[bytes]) -> Figures:
    found = [timings(head) for head in heads]
    names = dict.fromkeys(name for one in found for name in one)
    return {name: percentile([one[name] for one in found if name in one], 0.5) for name in names}


def _alone(server: Server, asked: list[bytes]) -> list[bytes]:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=20)
    heads = []
    for body in asked[:_ASKED_ALONE]:
        began = time.perf_counter()
        connection.request("POST", "/rank", body, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        seen = 1000 * (time.perf_counter() - began)
        heads.append(f"server-timing: {response.getheader('server-timing')}, caller;dur={seen:.3f}".encode())
    connection.close()
    return heads


def _closed(server: Server, wrk: Wrk, count: int, seconds: float) -> Callable[[], Figures]:
    return lambda: measure(server, wrk, count, seconds)


def _offered(server: Server, requests: list[bytes], phases: list[Phase], deadline_ms: int) -> list[Figures]:
    offered = offer((HOST, server.port), requests, phases, random.Random(1))
    return [summary(offered, place, phase.seconds, deadline_ms) for place, phase in enumerate(phases)]
