"""Measures how greedy callers slow another caller, the good neighbour, down.

    python -m benchmarks.load.greedy --behaviours FILE --ports 8001 8002

A good neighbour ranks at a low fixed rate, while other callers repeat one request as fast as it is answered.
With several ports the services are measured in turn, route by route, so that a busy machine is busy for all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import orjson
import uvloop

from benchmarks.load.offer import positive, requests_of, whole
from benchmarks.load.sockets import FULL, Phase, offer
from benchmarks.load.workload import bodies, read_asked
from contract.command_line import run
from deploy.processes import port_number

_START_SECONDS: Final = 0.5  # of greed, before the neighbour starts
_LENGTH: Final = b"content-length:"
_TIME: Final = 1_700_000_000_000


def request(method: str, path: str, body: object = None) -> bytes:
    """Return the bytes of a request."""
    data = b"" if body is None else orjson.dumps(body)
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: r\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def behaviours(count: int, users: int) -> list[dict[str, object]]:
    """Return behaviours of some users."""
    return [{"user_id": f"g{n % users}", "item_id": str(n), "ts": _TIME + n, "action": "click"} for n in range(count)]


GREEDY: Final = {
    "none": None,
    "POST /behaviours, 1,000 of 500 users": request("POST", "/behaviours", {"behaviours": behaviours(1_000, 500)}),
    "POST /feedback, 1,000": request("POST", "/feedback", {"feedback": behaviours(1_000, 500)}),
    "GET /openapi.json": request("GET", "/openapi.json"),
    "GET /metrics": request("GET", "/metrics"),
    "GET /info": request("GET", "/info"),
    "GET /health/live": request("GET", "/health/live"),
    "GET /docs": request("GET", "/docs"),
    "OPTIONS /rank": request("OPTIONS", "/rank"),
    "GET /nothing, 404": request("GET", "/nothing"),
    "POST /rank, 100,000 wrong candidates": request("POST", "/rank", {"user_id": "1", "candidates": [1] * 100_000}),
    "POST /rank, 422": request("POST", "/rank", {"user_id": "1"}),
    "POST /behaviours, 422 at the last of 1,000": request(
        "POST", "/behaviours", {"behaviours": [*behaviours(999, 500), {}]}
    ),
}


@dataclass(slots=True, eq=False)
class Greedy(asyncio.Protocol):
    """One connection that repeats one request."""

    request: bytes
    statuses: Counter[str]
    everyone: set[Greedy]
    received: bytearray = field(default_factory=bytearray)
    transport: asyncio.Transport = field(init=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transport is one, but does not inherit from it
        self.everyone.add(self)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Send the next request when the answer is complete."""
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(_LENGTH)[2].split(b"\r\n", 1)[0] or 0):
            return
        self.statuses[head[9:12].decode()] += 1
        self.received.clear()
        self.transport.write(self.request)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a connection that the service closed."""
        self.everyone.discard(self)
        self.statuses["closed"] += 1


async def measure(options: argparse.Namespace, rankings: Sequence[bytes], greedy: bytes | None) -> tuple[str, float]:
    """Return what the greedy callers got, and the median in ms of the neighbour's answers."""
    loop, statuses, everyone = asyncio.get_running_loop(), Counter[str](), set[Greedy]()
    for _ in range(options.greedy if greedy is not None else 0):
        await loop.create_connection(lambda: Greedy(greedy or b"", statuses, everyone), options.host, options.port)
    await asyncio.sleep(_START_SECONDS)
    address = (options.host, options.port)
    phases = [Phase(options.rate, options.seconds)]
    offered = await asyncio.to_thread(offer, address, rankings, phases, random.Random(1), connections=100)
    got = dict(statuses)
    for one in list(everyone):
        one.transport.abort()
    full = [1000 * value for value in offered.latencies(0, FULL)]
    counts = offered.counts(0)
    ranked = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    return f"{ranked}; greedy: {got or ''}", statistics.median(full) if full else float("nan")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load.greedy", description="A good neighbour of greedy callers."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--ports", type=port_number, nargs="+", default=[8000])
    parser.add_argument("--greedy", type=whole, default=32, help="greedy connections")
    parser.add_argument("--rate", type=positive, default=10.0, help="the neighbour's rankings per second")
    parser.add_argument("--seconds", type=positive, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=whole, default=3)
    parser.add_argument("--candidates", type=whole, default=10)
    parser.add_argument("--only", default="", help="routes whose description contains this")
    parser.add_argument("--behaviours", type=Path, required=True, help="CSV with the users and items to request")
    options = parser.parse_args(arguments)
    return run("greedy", lambda: _compare(options))


def _compare(options: argparse.Namespace) -> int:
    """Print a line for each route, service and round, and the medians at the end."""
    users, items = read_asked(options.behaviours)
    rankings = requests_of(bodies(users, items, options.candidates), deadline_ms=2_000)
    medians: dict[tuple[str, int], list[float]] = {}
    for name, greedy in GREEDY.items():
        if options.only not in name:
            continue
        for _ in range(options.rounds):
            for port in options.ports:
                options.port = port
                said, median = uvloop.run(measure(options, rankings, greedy))
                medians.setdefault((name, port), []).append(median)
                print(f"{name} | {port} | p50 {median:.1f} ms | {said}", flush=True)
    print("\n| Greedy callers |", " | ".join(f"p50 at {port}, ms" for port in options.ports), "|")
    for name in dict.fromkeys(name for name, _ in medians):
        found = [statistics.median(medians[name, port]) for port in options.ports]
        print(f"| {name} |", " | ".join(f"{value:.1f}" for value in found), "|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
