"""A service asked all the time while its Redis fails over: what callers see, and for how long.

python -m tests.support.redis_failover [--rounds 3]      prints the table of docs/redis.md
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Final, NamedTuple

import httpx

from tests.support.redis_server import RedisServer
from tests.support.redis_topology import ClusterNodes, Watched, ask, cluster, slot_of, until_true, watched
from tests.support.service_process import PlainService

DOWN_AFTER_MS: Final = 500  # of the Sentinels; the node timeout of the Cluster is the same
USERS: Final = tuple(f"user-{number}" for number in range(24))
READ_MS: Final = 50  # patience with a read; a busy machine would degrade answers without a fault at 20
_PAUSE_SECONDS: Final = 0.004
_CALM_ANSWERS: Final = 100  # full ones in a row end the window


class Answer(NamedTuple):
    """One ranking: when it was asked for, how long it took, its user, its status and whether it was full."""

    at: float
    seconds: float
    user: str
    status: int
    is_full: bool


class Seen(NamedTuple):
    """All answers, and when the fault began."""

    fault_at: float
    answers: list[Answer]

    @property
    def lost(self) -> int:
        """Requests without an answer, or with an error."""
        return sum(one.status != 200 for one in self.answers)

    @property
    def degraded_users(self) -> set[str]:
        return {one.user for one in self.answers if not one.is_full and one.at >= self.fault_at}

    @property
    def window_seconds(self) -> float:
        """From the fault to the end of the last degraded answer after it."""
        late = [one.at + one.seconds for one in self.answers if not one.is_full and one.at >= self.fault_at]
        return max(late, default=self.fault_at) - self.fault_at

    @property
    def slowest_seconds(self) -> float:
        return max(one.seconds for one in self.answers if one.at >= self.fault_at)


class Caller:
    """Asks one ranking after the other, for each user in turn, in a thread."""

    def __init__(self, url: str) -> None:
        self._url, self._stop = url, Event()
        self.answers: list[Answer] = []
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def until_calm(self, seconds: float = 60) -> None:
        """Wait until the last answers were all full."""
        deadline = time.monotonic() + seconds
        count = len(self.answers)
        while len(self.answers) < count + _CALM_ANSWERS or not all(
            one.is_full for one in self.answers[-_CALM_ANSWERS:]
        ):
            if time.monotonic() > deadline:
                raise AssertionError("answers stay degraded")
            time.sleep(0.05)

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, verify=False, timeout=20) as client:
            while not self._stop.is_set():
                user = USERS[len(self.answers) % len(USERS)]
                began = time.monotonic()
                status, is_full = self._ask(client, user)
                self.answers.append(Answer(began, time.monotonic() - began, user, status, is_full))
                self._stop.wait(_PAUSE_SECONDS)

    def _ask(self, client: httpx.Client, user: str) -> tuple[int, bool]:
        try:
            answer = client.post("/rank", json={"user_id": user, "candidates": ["i1", "i2", "i3"]})
        except httpx.HTTPError:
            return 0, False
        return answer.status_code, answer.status_code == 200 and not answer.json()["degraded"]


def observe(
    folder: Path, url: str, fault: Callable[[], object], is_over: Callable[[], bool], read_ms: int = READ_MS
) -> Seen:
    """Run a service on a Redis, cause the fault, and go on until it is over and all answers are full again."""
    service = PlainService(folder, url, REDIS__READ_TIMEOUT_MS=str(read_ms))
    try:
        service.start()
        events = [{"user_id": user, "item_id": "i1", "ts": 1_700_000_000_000} for user in USERS]
        httpx.post(f"{service.url}/behaviours", json={"behaviours": events}, timeout=20).raise_for_status()
        with Caller(service.url) as caller:
            caller.until_calm()
            fault_at = time.monotonic()
            fault()
            service.until(is_over, "over")
            caller.until_calm()
    finally:
        service.close()
    return Seen(fault_at, caller.answers)


# --- behind Sentinels


@contextmanager
def sentinels() -> Iterator[Watched]:
    with watched(sentinels=3, down_after_ms=DOWN_AFTER_MS) as parts:
        asyncio.run(until_true(parts.is_ready))
        asyncio.run(until_true(lambda: all(one.knows_all(others=2) for one in parts.sentinels)))
        yield parts


def of_sentinels(fault: str, folder: Path, read_ms: int = READ_MS) -> Seen:
    """Kill, freeze or demote (planned) the primary."""
    with sentinels() as parts:
        causes = {
            "killed": parts.servers[0].kill,
            "frozen": parts.servers[0].freeze,
            "planned": lambda: asyncio.run(until_true(parts.fail_over)),
        }
        return observe(folder, parts.url, causes[fault], lambda: parts.role(1) == "master", read_ms)


# --- in a Cluster


@contextmanager
def shards() -> Iterator[ClusterNodes]:
    with cluster(3, with_replicas=True) as nodes:
        asyncio.run(until_true(nodes.is_whole))
        asyncio.run(until_true(lambda: all(ask(one.port, "CLUSTER", "INFO") for one in nodes.replicas)))
        nodes.follow()
        asyncio.run(until_true(nodes.is_replicated))
        yield nodes


def of_cluster(fault: str, folder: Path, read_ms: int = READ_MS) -> tuple[Seen, set[str]]:
    """Kill, freeze or demote (planned) one primary, or move its slots; returns its users too."""
    with shards() as nodes:
        old, new = nodes.nodes[0], nodes.replicas[0]
        of_shard = {user for user in USERS if nodes.place_of(user) == 0}
        causes = {
            "killed": old.kill,
            "frozen": old.freeze,
            "planned": lambda: ask(new.port, "CLUSTER", "FAILOVER"),
            "moved": lambda: move_slots(nodes, old, nodes.nodes[1]),
        }
        ends = {"moved": lambda: True}
        is_over = ends.get(fault, lambda: (ask(new.port, "ROLE") or [""])[0] == "master")
        url = nodes.url(*[node.port for node in nodes.nodes])
        seen = observe(folder, url, causes[fault], is_over, read_ms)
    return seen, of_shard


def move_slots(nodes: ClusterNodes, source: RedisServer, target: RedisServer) -> None:
    """Move the slots of the users from one primary to another, as redis-cli --cluster reshard does."""
    ids = {node: ask(node.port, "CLUSTER", "MYID") for node in (source, target)}
    for slot in sorted({slot_of(user) for user in USERS if nodes.place_of(user) == 0}):
        ask(target.port, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        ask(source.port, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        for stored in ask(source.port, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            ask(source.port, "MIGRATE", "127.0.0.1", target.port, stored, 0, 5000)
        for node in (target, source):
            ask(node.port, "CLUSTER", "SETSLOT", slot, "NODE", ids[target])


SENTINEL_FAULTS: Final = ("killed", "frozen", "planned")
CLUSTER_FAULTS: Final = ("killed", "frozen", "planned", "moved")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.redis_failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    print("| Shape | Primary | Rankings | Lost | Degraded for, s (median, longest) | Slowest answer, ms |")
    print("| --- | --- | --- | --- | --- | --- |")
    for shape, faults in (("Sentinel", SENTINEL_FAULTS), ("Cluster", CLUSTER_FAULTS)):
        for fault in faults:
            found = [_once(shape, fault) for _ in range(options.rounds)]
            windows = [one.window_seconds for one in found]
            slowest = 1000 * max(one.slowest_seconds for one in found)
            print(
                f"| {shape} | {fault} | {sum(len(one.answers) for one in found):,} | {sum(one.lost for one in found)} "
                f"| {median(windows):.1f}, {max(windows):.1f} | {slowest:.0f} |",
                flush=True,
            )
    return 0


def _once(shape: str, fault: str) -> Seen:
    with tempfile.TemporaryDirectory() as folder:
        return of_sentinels(fault, Path(folder)) if shape == "Sentinel" else of_cluster(fault, Path(folder))[0]


if __name__ == "__main__":
    sys.exit(main())
