"""Offer rankings at a fixed rate, whatever comes back: `python -m deploy.load --rate 500 --seconds 10`.

Open loop: requests are due at random moments of a fixed mean rate, and time counts from the moment at which a request
was due, so that a slow service cannot slow its own examination down. docs/measurements.md has been measured with it.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import orjson
import uvloop

from contract.command_line import CommandError, run
from deploy.processes import port_number

_BODIES: Final = 2_000
_GRACE_SECONDS: Final = 3.0  # for the last answers
_FULL: Final = b'"degraded":[]'
_LENGTH: Final = b"content-length:"


@dataclass(slots=True)
class Tally:
    """What became of the requests: seconds from the moment each was due, by outcome, and requests that got nothing."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)

    def answered(self, outcome: str, seconds: float) -> None:
        """Count an answer."""
        self.seconds.setdefault(outcome, []).append(seconds)


@dataclass(slots=True, eq=False)
class Connection(asyncio.Protocol):
    """One connection, with one request at a time on it."""

    tally: Tally
    idle: list[Connection]
    everything: set[Connection]
    is_kept: bool
    due: float = 0.0
    received: bytes = b""
    is_busy: bool = False
    transport: asyncio.Transport = field(init=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self.everything.add(self)

    def ask(self, request: bytes, due: float) -> None:
        """Send one request."""
        self.due, self.is_busy, self.received = due, True, b""
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Count the answer once it is whole."""
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        lower = head.lower()
        if not end or len(body) < int(lower.partition(_LENGTH)[2].split(b"\r\n", 1)[0]):
            return
        status = head[9:12].decode()
        outcome = status if status != "200" else "full" if _FULL in body else "degraded"
        self.tally.answered(outcome, time.perf_counter() - self.due)
        self.is_busy = False
        if b"connection: close" in lower or not self.is_kept:
            self.transport.close()
        else:
            self.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a request that was not answered."""
        self.everything.discard(self)
        if self.is_busy:
            self.tally.lost["closed"] += 1
        if self in self.idle:
            self.idle.remove(self)


def make_requests(users: Sequence[str], items: Sequence[str], count: int, deadline_ms: int, seed: int) -> list[bytes]:
    """Return ready requests, each with a random user and `count` random candidates."""
    draw = random.Random(seed)
    requests = []
    for _ in range(_BODIES):
        body = orjson.dumps({"user_id": draw.choice(users), "candidates": draw.sample(items, min(count, len(items)))})
        head = (
            "POST /rank HTTP/1.1\r\nhost: ranker\r\ncontent-type: application/json\r\n"
            f"x-deadline-ms: {deadline_ms}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


async def offer(options: argparse.Namespace, requests: Sequence[bytes]) -> Tally:
    """Send requests at their moments, over kept connections, and wait for the last answers."""
    loop = asyncio.get_running_loop()
    draw = random.Random(options.seed)
    tally, idle = Tally(), list[Connection]()
    opening: set[asyncio.Task[None]] = set()
    everything: set[Connection] = set()

    async def on_new_connection(request: bytes, due: float) -> None:
        try:
            _, made = await loop.create_connection(
                lambda: Connection(tally, idle, everything, not options.new_connections), options.host, options.port
            )
        except OSError:
            tally.lost["refused"] += 1
            return
        made.ask(request, due)

    due = time.perf_counter()  # uvloop's own clock knows milliseconds alone
    end = due + options.seconds
    while due < end:
        if due > time.perf_counter():
            await asyncio.sleep(due - time.perf_counter())
        request = draw.choice(requests)
        if idle:
            idle.pop().ask(request, due)
        elif len(everything) - len(idle) + len(opening) < options.connections or options.new_connections:
            task = loop.create_task(on_new_connection(request, due))
            opening.add(task)
            task.add_done_callback(opening.discard)
        else:
            tally.lost["no connection"] += 1
        due += draw.expovariate(options.rate)
    patience = loop.time() + _GRACE_SECONDS
    while (opening or any(one.is_busy for one in everything)) and loop.time() < patience:  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # many protocols, none of which knows that it is the last
    tally.lost["no answer"] += sum(one.is_busy for one in everything)
    return tally


def report(tally: Tally, seconds: float, deadline_ms: int) -> str:
    """Return a few lines: goodput, and each outcome with its percentiles."""
    good = sum(value <= deadline_ms / 1000 for value in tally.seconds.get("full", []))
    lines = [f"goodput {good / seconds:.0f}/s (full answers within {deadline_ms} ms)"]
    for outcome, values in sorted(tally.seconds.items()):
        values.sort()
        at = [1000 * values[min(len(values) - 1, int(share * len(values)))] for share in (0.5, 0.95, 0.99, 1.0)]
        lines.append(
            f"{outcome:>10} {len(values):>7}  p50 {at[0]:.1f}  p95 {at[1]:.1f}  p99 {at[2]:.1f}  max {at[3]:.1f} ms"
        )
    lines.append(f"      lost {sum(tally.lost.values()):>7}  {dict(+tally.lost) or ''}")
    return "\n".join(lines)


def read_asked(path: Path) -> tuple[list[str], list[str]]:
    """Return the distinct users and items of a behaviours file, in order.

    Raises:
        CommandError: it is no behaviours file.
        OSError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            pairs = {(row["user_id"], row["item_id"]) for row in csv.DictReader(lines)}
    except (KeyError, UnicodeDecodeError, csv.Error):
        raise CommandError(
            f"{path}: not a behaviours file: CSV in UTF-8 with the columns user_id and item_id"
        ) from None
    if not pairs or any(value is None for pair in pairs for value in pair):
        raise CommandError(f"{path}: it holds no behaviours, or lines without a user or an item")
    return sorted({user for user, _ in pairs}), sorted({item for _, item in pairs})


def positive(text: str) -> float:
    """Read a number above 0 of a command line.

    Raises:
        ValueError: it is none.
    """
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def whole(text: str) -> int:
    """Read a whole number above 0 of a command line.

    Raises:
        ValueError: it is none.
    """
    if int(text) < 1:
        raise ValueError
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Offer, and print the report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.load", description="Offer rankings at a fixed rate.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=port_number, default=8000)
    parser.add_argument("--rate", type=positive, default=100.0, help="requests a second")
    parser.add_argument("--seconds", type=positive, default=10.0)
    parser.add_argument("--candidates", type=whole, default=200)
    parser.add_argument("--deadline-ms", type=whole, default=150)
    parser.add_argument("--connections", type=whole, default=1_000, help="kept connections, at most")
    parser.add_argument("--new-connections", action="store_true", help="one connection per request")
    parser.add_argument("--behaviours", type=Path, required=True, help="CSV whose users and items are asked for")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    return run("load", lambda: _offer(options))


def _offer(options: argparse.Namespace) -> int:
    users, items = read_asked(options.behaviours)
    requests = make_requests(users, items, options.candidates, options.deadline_ms, options.seed)
    print(report(uvloop.run(offer(options, requests)), options.seconds, options.deadline_ms))
    return 0


if __name__ == "__main__":
    sys.exit(main())
