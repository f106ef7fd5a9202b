"""Restarts, kills and bad starts under load."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from typing import Final, NamedTuple

from tests.faults.invariants import Expected
from tests.faults.rig import Rig, Service
from tests.faults.row import absent, proven, row
from tests.faults.traffic import LOST, REFUSED, Traffic
from tests.support.redis_server import RedisServer
from tests.support.warm_service import run_service

_TRIPS: Final = 3_000  # a batch takes some milliseconds: one process is soon at its limit
_KILLED: Final = Expected(may_lose=10**9, may_refuse=10**9)  # the row itself checks how many


class Shape(NamedTuple):
    """How callers come: how many a second, and whether they keep their connections."""

    name: str
    rate: float
    is_kept: bool
    is_slow: bool


SHAPES: Final = (
    Shape("new connections, below capacity", 60, False, False),
    Shape("kept connections", 100, True, False),
    Shape("new connections, above capacity", 350, False, True),
)


@row("P1", "SIGTERM and a successor, under load", "lifecycle", quick=True)
def restarted(rig: Rig) -> None:
    redis = rig.redis()
    for shape in SHAPES:
        slow = {"LIMITS__MAX_INFLIGHT": "16", "BATCHING__MAX_ROWS": "1"} if shape.is_slow else {}
        parts = {"trips": _TRIPS} if shape.is_slow else {}
        name = shape.name.replace(" ", "-").replace(",", "")
        # On a busy machine a start takes longer than the 3 s within which a successor must come.
        old = rig.service(redis, name=name, parts=parts, HTTP__DRAIN_DELAY_MS="15000", **slow)
        count = int(rig.pick(2, 17))
        with rig.traffic(old.port, rate=shape.rate, is_kept=shape.is_kept) as traffic:
            traffic.mark("quiet", 1)
            traffic.mark("restarts")
            for number in range(count):
                old = _successor(rig, old, replaces=number % 2 == 1)
            traffic.mark("after", 1)
        rig.ended(old, number=signal.SIGINT)
        outcomes = traffic.counts()
        if shape.is_slow:
            rig.require(outcomes["429"] + outcomes["504"], "the shape above capacity was not above capacity")
        _compare(rig, shape, traffic, count, _plain(rig, redis, shape, parts))


def _successor(rig: Rig, old: Service, *, replaces: bool) -> Service:
    """Start a successor, which takes over the socket: beside the old process, or just after its SIGTERM."""
    new = rig.adopt(old)
    if replaces:
        new.spawn(options=("--replace",))
    else:
        old.send(signal.SIGTERM)
        old.until(lambda: "draining" in old.log(), "draining")
        new.spawn()
    new.until(lambda: '"listening"' in new.log(), "listening")
    rig.ended(old, number=None)
    return new


def _plain(rig: Rig, redis: RedisServer, shape: Shape, parts: dict[str, int]) -> tuple[float, float]:
    """Return requests lost and connections refused per restart of the plain build."""
    restarts = int(rig.pick(1, 2))
    with ExitStack() as stack:
        server = stack.enter_context(rig.plain(redis, parts=parts))
        traffic = Traffic(server.port, rig.world, rate=shape.rate, is_kept=shape.is_kept, is_plain=True)
        with traffic:
            traffic.mark("quiet", 1)
            for _ in range(restarts):
                server.process.send_signal(signal.SIGTERM)
                server.process.wait(30)
                server = stack.enter_context(rig.plain(redis, parts=parts, port=server.port))
            traffic.mark("after", 0.5)
    outcomes = traffic.counts()
    return sum(outcomes[one] for one in LOST) / restarts, sum(outcomes[one] for one in REFUSED) / restarts


def _compare(rig: Rig, shape: Shape, traffic: Traffic, count: int, plain: tuple[float, float]) -> None:
    outcomes = traffic.counts()
    for what, fates, by_plain in (("lost", LOST, plain[0]), ("refused", REFUSED, plain[1])):
        found = sum(outcomes[one] for one in fates)
        rig.figure("B10", f"{what} per restart: {shape.name}, {count} restarts", found / count, most=0, plain=by_plain)


@row("P3", "SIGKILL and a new start", "lifecycle", quick=True)
def killed(rig: Rig) -> None:
    redis = rig.redis()
    old = rig.service(redis)
    ready: list[float] = []
    kills = int(rig.pick(2, 50))
    with rig.traffic(old.port, rate=60, expected=_KILLED) as traffic:
        traffic.mark("quiet", 1)
        for _ in range(kills):
            new = rig.adopt(old)
            traffic.mark("kill")
            old.process.kill()
            old.wait()
            began = time.monotonic()
            new.spawn()
            rig.until_ready(new)
            ready.append(time.monotonic() - began)
            old = new
            traffic.mark("up", 0.5)
    lost = sum(traffic.counts()[one] for one in LOST)
    # In flight at most: what arrives in 50 ms at this rate, and a few that are on their way.
    rig.figure("B11", f"requests lost per kill, {kills} kills", lost / kills, most=8)
    rig.figure("B11", "longest time until ready again", max(ready), "s", most=3.0)


@row("P5", "the process stops for 2 s (SIGSTOP) under load", "lifecycle")
def stopped(rig: Rig) -> None:
    """Also L10: what waited meanwhile is too old, and is refused instead of ranked."""
    redis = rig.redis()
    service = rig.service(redis)
    with rig.traffic(service, rate=60) as traffic:
        traffic.mark("quiet", 1)
        service.send(signal.SIGSTOP)
        traffic.mark("stopped", 2)
        service.send(signal.SIGCONT)
        traffic.mark("after", 2)
    late = [one for one in traffic.phase("stopped") if one.seconds > 0.3]
    rig.require(late, "nothing waited")
    refused = sum(one.outcome == "504" for one in late) / max(1, len(late))
    rig.figure("L10", "stale requests that were refused", 100 * refused, "%", least=95.0)
    after = [one for one in traffic.phase("after") if one.due - traffic.began("after") > 0.5]
    good = sum(one.outcome == "full" for one in after) / max(1, len(after))
    rig.figure("L10", "full answers from 0.5 s after it goes on", 100 * good, "%", least=99.0)


@row("P7", "bad configuration", "lifecycle")
def bad_settings(rig: Rig) -> None:
    """Each bad setting ends the start with status 2; the message names it and has no secret."""
    secret = "hunter2-canary"
    bad = {
        "HTTP__PROT": "1", "HTTP__PORT": "70000", "HTTP__WORKERS": "-1", "REDIS__URL": f"http://u:{secret}@h",
        "LIMITS__MAX_BODY_BYTES": "x", "LIMITS__DEADLINE_MS": "0", "REDIS__READ_TIMEOUT_MS": "nan", "NOTHING": "1",
        "REDIS": "x", "BATCHING__MAX_ROWS": "1e9", "INFERENCE__PROVIDER": "tpu", "LOGGING__LEVEL": "loud",
        "HTTP__CORS_ORIGINS": "[", "HTTP__": "1", "__": "1", "REDIS__URL__X": "1",
    }  # fmt: skip
    values = ["", " ", "\u00e9", "{}", "[]", "null", "-1", "1e400", "9" * 400, "true"]
    tried = 0
    for name, value in [
        *bad.items(),
        *((name, one) for name in ("HTTP__PORT", "LIMITS__MAX_INFLIGHT") for one in values),
    ]:
        done = run_service({name: value}, "--check-settings")
        said = done.stderr + done.stdout
        rig.require(done.returncode in (0, 2), f"{name}={value!r}: status {done.returncode}")
        rig.require(done.returncode == 0 or name.split("__")[0] in said, f"{name}={value!r}: not named: {said[:200]}")
        rig.require(secret not in said and "Traceback" not in said, f"{name}: {said[:200]}")
        tried += 1
    rig.figure("P7", "bad settings tried", tried, least=30)


proven("P2", "SIGTERM during the start, during a load, twice", "lifecycle",
       "e2e/test_signals.py::test_sigterm_in_the_first_second",
       "e2e/test_signals.py::test_sigterm_again_and_again_until_the_end",
       "e2e/test_bundles.py::test_sigterm_ends_a_service_that_is_loading_an_endless_bundle")  # fmt: skip
proven("P4", "a bad file at a start: the last accepted one is served", "lifecycle",
       "e2e/test_experiments.py::test_replica_that_starts_with_a_bad_file_serves_the_last_accepted_one",
       "e2e/test_faults.py::test_a_bad_experiment_file_refuses_to_start_and_says_why")  # fmt: skip
proven("P5", "a worker whose event loop is blocked", "lifecycle",
       "e2e/test_workers.py::test_a_hung_worker_is_killed_and_started_again",
       "e2e/test_workers.py::test_a_killed_worker_loses_its_own_connections_only_and_is_started_again")  # fmt: skip
absent("P6", "the container runs out of memory", "it needs a memory limit of a container; `make compose-test` sets one")
absent("P8", "two versions of the service side by side", "this is the first release")
