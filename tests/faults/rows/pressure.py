"""A greedy caller, half of the processor taken away, batches of very different sizes."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from benchmarks.figures import percentile
from benchmarks.load.sockets import FULL, Phase
from tests.faults.invariants import status_of
from tests.faults.rig import DEADLINE_MS, Rig
from tests.faults.row import proven, row
from tests.faults.rows.load import DEADLINE_MS as LOAD_DEADLINE_MS
from tests.faults.rows.load import Load, Server, pinned, placed, served
from tests.faults.snapshot import snapshot
from tests.faults.traffic import DEGRADED, Traffic, good_share
from tests.support.access import bearer, document, entry, key_of

_GOOD_RATE: Final = 20.0
_GREEDY_RATE: Final = 10 * _GOOD_RATE
_QUOTA: Final = 30.0  # rankings per second of each caller
_TRIPS: Final = 3_000  # a batch takes some milliseconds: both callers together are more than the service can do
_LARGE, _SMALL = 1_500, 10  # candidates
_MORE_MIB: Final = 16.0


@row("L6", "one caller with ten times the requests of another, with and without quotas", "load")
def greedy(rig: Rig) -> None:
    shares = {}
    for name, quota in (("open", {}), ("quotas", {"requests_per_second": _QUOTA, "burst_seconds": 1})):
        shares[name] = _good_beside_a_greedy_one(rig, name, quota)
    rig.figure("A11", "answers in time to the good caller, with quotas", 100 * shares["quotas"], "%", least=95.0)
    rig.note(f"without quotas the good caller gets {100 * shares['open']:.0f}% of its answers in time")


def _good_beside_a_greedy_one(rig: Rig, name: str, quota: dict[str, float]) -> float:
    access = rig.folder / f"{name}.json"
    callers = [entry(caller, "rank", **quota) for caller in ("good", "greedy")]
    access.write_bytes(document(*callers, entry("all", "admin")))
    service = rig.service(
        rig.redis(), name=name, parts={"trips": _TRIPS}, ACCESS__FILE=str(access), BATCHING__MAX_ROWS="1",
        LIMITS__MAX_INFLIGHT="16",
    )  # fmt: skip
    service._client.headers.update(bearer("all"))
    asked, others = _with_keys(rig), dict[str, int]()
    with rig.traffic(service, rate=_GOOD_RATE, requests=asked["good"], others=others) as traffic:
        traffic.mark("quiet", 1)
        with Traffic(service.port, rig.world, rate=_GREEDY_RATE, requests=asked["greedy"], seed=2) as crowd:
            traffic.mark("greed", rig.pick(4, 20))
        others |= Counter(filter(None, map(status_of, crowd.records)))
        traffic.mark("after", 1)
    rig.count(crowd.records, DEADLINE_MS)
    return good_share(traffic.phase("greed"), DEADLINE_MS, outcomes=(FULL, DEGRADED))


def _with_keys(rig: Rig) -> dict[str, list[bytes]]:
    """Return the requests of both callers."""
    plain = [asked.bytes(DEADLINE_MS) for asked in rig.world.asked]
    host = b"host: faults\r\n"
    return {
        name: [one.replace(host, host + b"authorization: Bearer %s\r\n" % key_of(name).encode(), 1) for one in plain]
        for name in ("good", "greedy")
    }


@contextmanager
def _thief() -> Iterator[None]:
    """Keep the core of the service busy: the kernel then gives the service half of it."""
    thief = subprocess.Popen([*pinned(), sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        thief.kill()
        thief.wait()


@row("L9", "another process takes half of the core", "load")
def stolen(rig: Rig) -> None:
    seconds = rig.pick(3, 20)
    with placed(rig) as place:
        service = served(rig, place)
        load = Load(place, Server(service.port, service.process.pid), rig.seed)
        whole = load.capacity(rig.pick(1, 3))
        with _thief():
            left = load.capacity(rig.pick(1, 3))
            offered = load.offer(Phase(0.9 * whole, seconds))
        after = load.offer(Phase(0.4 * whole, 5))
        rig.count(load.records, LOAD_DEADLINE_MS)
    rig.require(left < 0.8 * whole, f"nothing was taken: capacity {whole:.0f}/s, then {left:.0f}/s")
    good = load.good(offered, 0, seconds) / max(1.0, left)
    slowest = 1_000 * percentile(offered.latencies(0, FULL), 0.99)
    rig.figure("L9", "goodput at 0.9 x the whole core's capacity, of what is left of it", 100 * good, "%", least=90.0)
    rig.figure("L9", "p99 of full answers meanwhile", slowest, "ms", most=float(LOAD_DEADLINE_MS))
    rig.figure("A5", "good again after the core is free", load.recovery(after, 0), "s", most=1.0)
    rig.note(f"capacity {whole:.0f}/s, with half of the core {left:.0f}/s")


@row("M21", "large and small batches in turn", "model")
def arena(rig: Rig) -> None:
    """The memory of the largest batch is kept; it must not grow with every change of size."""
    sizes = []
    with placed(rig) as place:
        service = served(rig, place)
        server = Server(service.port, service.process.pid)
        large, small = (Load(place, server, rig.seed, candidates) for candidates in (_LARGE, _SMALL))
        for _ in range(int(rig.pick(5, 40))):
            large.offer(Phase(1_000, 0.3))
            small.offer(Phase(100, 0.5))
            sizes.append(snapshot(service).resident_bytes / 2**20)
        for load in (large, small):
            rig.count(load.records, LOAD_DEADLINE_MS)
    early = len(sizes) // 4
    what = f"memory after {len(sizes)} rounds, more than after {early + 1}"
    rig.figure("M21", what, sizes[-1] - sizes[early], "MiB", most=_MORE_MIB)
    rig.note(f"{sizes[0]:.0f} MiB after the first large batches, {max(sizes):.0f} MiB at most")


proven("L6", "a caller who floods another route", "load",
       "e2e/test_callers.py::test_a_flood_of_another_route_leaves_rankings_whole")  # fmt: skip
