"""Overload: rates far above capacity, spikes, retries, callers who hang up.

The service and the plain build run one after the other on one core, on the demo's bundle with the state cache off; this
process and Redis have the other core. A request has 1,000 candidates, so that a core is full at a rate that one caller
can exceed tenfold.
"""

from __future__ import annotations

import argparse
import math
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import orjson

from benchmarks.figures import percentile
from benchmarks.load.offer import requests_of
from benchmarks.load.sockets import FULL, Offered, Phase, offer, outcome_of
from benchmarks.load.usage import usage
from benchmarks.load.workload import bodies
from benchmarks.load.world import MODEL, NO_CACHE
from benchmarks.load.world import World as Place
from benchmarks.load.world import world as place_of
from tests.faults.rig import Rig, Service
from tests.faults.row import absent, proven, row
from tests.faults.snapshot import snapshot
from tests.faults.traffic import Record, Seen

DEADLINE_MS: Final = 150
_CANDIDATES: Final = 1_000
_CHECKED: Final = 50  # one in so many full answers is read
_WINDOW_SECONDS: Final = 1.0
_FLOOD: Final = 2_500.0  # per second: more than a core can rank
_CALM_TRIES: Final = 120  # of half a second
_FACTORS: Final = (2, 5, 10)  # of the capacity


class Server(NamedTuple):
    """A server under load."""

    port: int
    pid: int


class Reader:
    """Returns the outcome of answers, and reads some of them."""

    def __init__(self, asked: Sequence[bytes]) -> None:
        self._asked, self.checked, self.wrong = asked, 0, 0

    def read(self, number: int, answer: bytes, head_end: int) -> str:
        outcome = outcome_of(answer, head_end)
        if outcome == FULL and number % _CHECKED == 0:
            items = orjson.loads(answer[head_end + 4 :])["items"]
            candidates = orjson.loads(self._asked[number % len(self._asked)])["candidates"]
            scores = [one["score"] for one in items]
            is_right = sorted(one["item_id"] for one in items) == sorted(candidates)
            self.checked += 1
            self.wrong += not (is_right and all(map(math.isfinite, scores)) and scores == sorted(scores, reverse=True))
        return outcome


class Load:
    """Offers the workload to one server; keeps every record."""

    def __init__(self, place: Place, server: Server, seed: int, candidates: int = _CANDIDATES) -> None:
        self.server, self._seed = server, seed
        asked = bodies(place.users, place.items, candidates, count=400, seed=seed)
        self.reader, self._requests = Reader(asked), requests_of(asked, DEADLINE_MS)
        self.records: list[Record] = []

    def offer(self, *phases: Phase) -> Offered:
        offered = offer(
            ("127.0.0.1", self.server.port), self._requests, phases, random.Random(self._seed),
            connections=1_500, read_answer=self.reader.read,
        )  # fmt: skip
        self.records += [
            Record(one.number, one.due, one.late, one.seconds, "", Seen(one.outcome)) for one in offered.answers
        ]
        return offered

    def good(self, offered: Offered, phase: int, seconds: float) -> float:
        """Return full answers within the deadline, per second."""
        return sum(value <= DEADLINE_MS / 1_000 for value in offered.latencies(phase, FULL)) / seconds

    def capacity(self, seconds: float, tries: int = 3) -> float:
        """Return full answers per second, in time or not, while far more is asked; the median of some tries."""
        found = []
        for _ in range(tries):
            offered = self.offer(Phase(_FLOOD, seconds), Phase(20, 1))
            end = offered.began[0] + seconds
            done = sum(one.outcome == FULL and one.due + one.seconds <= end for one in offered.answers)
            found.append(done / seconds)
            self.calm()
        return median(found)

    def calm(self) -> None:
        """Wait until what a flood has left is worked off: the plain build still answers callers that have gone."""
        for _ in range(_CALM_TRIES):
            offered = self.offer(Phase(40, 0.5))
            if self.good(offered, 0, 1) >= 0.9 * len(offered.answers) > 0:
                return

    def recovery(self, offered: Offered, phase: int) -> float:
        """Return when the first window began from which on 99.9% of requests are answered well; NaN if never."""
        began, windows = offered.began[phase], dict[int, list[bool]]()
        for one in offered.answers:
            if one.phase == phase:
                good = one.outcome == FULL and one.seconds <= DEADLINE_MS / 1_000
                windows.setdefault(int((one.due - began) / (_WINDOW_SECONDS / 4)), []).append(good)
        bad = [place for place, found in windows.items() if sum(found) < 0.999 * len(found)]
        last = max(windows, default=0)
        if bad and max(bad) >= last - 1:
            return math.nan
        return (max(bad) + 1) * _WINDOW_SECONDS / 4 if bad else 0.0


@contextmanager
def placed(rig: Rig) -> Iterator[Place]:
    """Yield the demo's bundles and behaviours, with this process and its Redis on one core."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-1:])  # Redis, which it starts, inherits this
    try:
        with place_of(argparse.Namespace(bundles=rig.bundles, behaviours=rig.behaviours)) as place:
            yield place
    finally:
        os.sched_setaffinity(0, cores)


def pinned() -> tuple[str, ...]:
    return ("taskset", "--cpu-list", "0")


def served(rig: Rig, place: Place, **settings: str) -> Service:
    chosen = {
        "BUNDLES__ROOT": str(place.bundles), "BUNDLES__DEFAULT_MODEL": MODEL, "EXPERIMENTS__FILE": "",
        **{name.removeprefix("RANKER_"): value for name, value in NO_CACHE.items()}, **settings,
    }  # fmt: skip
    made = rig.prepared(place.redis_url, name=f"load-{len(rig.services)}", **chosen)
    made.spawn(None, *pinned())
    return rig.until_ready(made)


@row("L1 L2", "2, 5 and 10 times the capacity, then half of it", "load", quick=True, seeds=1)
def overloaded(rig: Rig) -> None:
    seconds = rig.pick(3, 20)
    with placed(rig) as place:
        service = served(rig, place)
        mine = Load(place, Server(service.port, service.process.pid), rig.seed)
        found = _overload(rig, mine, seconds)
        figures = _service_figures(rig, service, mine, found["capacity"], seconds)
        rig.count(mine.records, DEADLINE_MS)
        rig.require(not mine.reader.wrong, f"V3: {mine.reader.wrong} of {mine.reader.checked} answers that were read")
        rig.ended(service)
        with rig.plain(place.redis_url, bundle=_bundle(place), command=pinned()) as server:
            load = Load(place, Server(server.port, server.process.pid), rig.seed)
            plain = _overload(rig, load, seconds, (10,) if rig.is_quick else _FACTORS)
    for factor, least in zip(_FACTORS, (95, 95, 90), strict=True):
        rig.figure(
            "A1", f"goodput at {factor} x capacity, of the peak", 100 * found[str(factor)] / found["peak"], "%",
            least=least, plain=100 * plain[str(factor)] / plain["peak"] if str(factor) in plain else None,
        )  # fmt: skip
    rig.figure("A5", "good again after 10 x, at 0.5 x", found["recovery"], "s", most=1.0, plain=plain["recovery"])
    for bar, what, value, unit, most in figures:
        rig.figure(bar, what, value, unit, most=most)
    rig.note(
        f"capacity: {found['capacity']:.0f}/s, plain {plain['capacity']:.0f}/s; {seconds:.0f} s at each rate; "
        f"peak of goodput: {found['peak']:.0f}/s, plain {plain['peak']:.0f}/s"
    )


def _bundle(place: Place) -> Path:
    (found,) = {path.parent for path in (place.bundles / MODEL).glob("*/manifest.json")}
    return found


def _overload(rig: Rig, load: Load, seconds: float, factors: Sequence[int] = _FACTORS) -> dict[str, float]:
    load.offer(Phase(50, 1))
    capacity = load.capacity(rig.pick(1.0, 5.0), int(rig.pick(1, 3)))
    found = {}
    peak = max(load.good(load.offer(Phase(share * capacity, seconds)), 0, seconds) for share in (0.6, 0.8))
    for factor in factors:
        offered = load.offer(Phase(factor * capacity, seconds), Phase(0.5 * capacity, rig.pick(2, 10)))
        found[str(factor)] = load.good(offered, 0, seconds)
        peak = max(peak, found[str(factor)])
        found["recovery"] = load.recovery(offered, 1)
        generator = max(offered.cpu_seconds[:1]) / seconds
        if generator > 0.8:
            rig.note(f"the caller used {generator:.0%} of its core at {factor} x: that rate may not have been reached")
        load.calm()
    return {**found, "peak": peak, "capacity": capacity}


def _service_figures(
    rig: Rig, service: Service, load: Load, peak: float, seconds: float
) -> list[tuple[str, str, float, str, float]]:
    """Return figures of the service by itself at 10 times its capacity, with one probe of its health every 50 ms."""
    before = snapshot(service)
    low, low_cpu = _measured(load, service, 0.5 * peak, seconds)
    size = snapshot(service).resident_bytes
    high, high_cpu = _measured(load, service, 10 * peak, seconds)
    after = snapshot(service)
    served = low_cpu / max(1, len(low.latencies(0, FULL)))
    refused = len(high.latencies(0, "429"))
    cost = (high_cpu - served * len(high.latencies(0, FULL))) / max(1, refused)
    rows = after.value("ranker_batch_rows_sum", bundle=_name(after)) - before.value(
        "ranker_batch_rows_sum", bundle=_name(after)
    )
    answered = sum(counts["full"] + counts["degraded"] for counts in (low.counts(0), high.counts(0)))
    accepted = [1_000 * one for one in high.latencies(0, FULL)]
    return [
        ("A2", "p99 of full answers at 10 x", percentile(accepted, 0.99), "ms", 0.6 * DEADLINE_MS),
        ("A3", "p99 of a refusal at 10 x", 1_000 * percentile(high.latencies(0, "429"), 0.99), "ms", 25.0),
        ("A4", "CPU of a refusal, of a served ranking's", 100 * cost / served, "%", 10.0),
        ("A6", "rankings computed and not answered", 100 * max(0.0, rows - answered) / max(1, rows), "%", 1.0),
        ("A8", "more memory at 10 x", (after.resident_bytes - size) / 2**20, "MiB", 64.0),
    ]


def _name(after: object) -> str:
    return next(
        dict(labels)["bundle"]
        for (name, labels) in after.samples  # type: ignore[attr-defined]
        if name == "ranker_batch_rows_sum" and dict(labels)["bundle"].startswith(MODEL)
    )


def _measured(load: Load, service: Service, rate: float, seconds: float) -> tuple[Offered, float]:
    began = usage([service.process.pid]).cpu_seconds
    offered = load.offer(Phase(rate, seconds))
    return offered, usage([service.process.pid]).cpu_seconds - began


@row("L3", "20 x for 2 s, then calm, again and again", "load")
def spikes(rig: Rig) -> None:
    with placed(rig) as place:
        service = served(rig, place)
        load = Load(place, Server(service.port, service.process.pid), rig.seed)
        peak = load.capacity(1.5)
        waves = int(rig.pick(2, 6))
        offered = load.offer(*[phase for _ in range(waves) for phase in (Phase(20 * peak, 2), Phase(0.5 * peak, 8))])
        rig.count(load.records, DEADLINE_MS)
    calm = [one for one in offered.answers if one.phase % 2 and one.due - offered.began[one.phase] > 1.0]
    good = sum(one.outcome == FULL and one.seconds <= DEADLINE_MS / 1_000 for one in calm) / len(calm)
    spike = [1_000 * one.seconds for one in offered.answers if not one.phase % 2 and one.outcome == FULL]
    rig.figure("L3", "good answers in the calm, from 1 s after a spike", 100 * good, "%", least=99.0)
    rig.figure("L3", "p99 of full answers in the spikes", percentile(spike, 0.99), "ms", most=float(DEADLINE_MS))


@row("L8", "deadlines of 1 ms", "load")
def expired(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    before = snapshot(service)
    with rig.traffic(service, rate=200, deadline_ms=1) as traffic:
        traffic.mark("late", rig.pick(2, 5))
    after = snapshot(service)
    late = sum(one.outcome == "504" for one in traffic.records)
    rows = sum(
        after.value("ranker_batch_rows_sum", bundle=name) - before.value("ranker_batch_rows_sum", bundle=name)
        for name in ("mgnm@1", "pyramid_mixer@1")
    )
    answered = len(traffic.records) - late
    rig.figure(
        "A6",
        "rankings computed and not answered, deadline 1 ms",
        100 * max(0.0, rows - answered) / max(1, len(traffic.records)),
        "%",
        most=1.0,
    )
    rig.note(f"{late} of {len(traffic.records)} refused with 504")


@row("L4", "9 times the capacity, the rate of 3 times with 3 retries of what is refused", "load")
def retried(rig: Rig) -> None:
    """The rate of a storm: callers at 3 times the capacity who send what is refused again, up to three times, at once."""
    with placed(rig) as place:
        service = served(rig, place)
        load = Load(place, Server(service.port, service.process.pid), rig.seed)
        peak = load.capacity(1.5)
        seconds = rig.pick(3, 30)
        # Two thirds are refused, and so are most of their retries: 3 + 3 * 2 times the capacity arrive.
        offered = load.offer(Phase(9 * peak, seconds), Phase(0.5 * peak, 5))
        rig.count(load.records, DEADLINE_MS)
    rig.figure(
        "A7", "goodput in a storm of retries, of the peak", 100 * load.good(offered, 0, seconds) / peak, "%", least=90.0
    )
    rig.figure("A5", "good again after the storm", load.recovery(offered, 1), "s", most=1.0)


proven("L5", "requests of the largest size", "load",
       "unit/service/flow/test_gate.py::test_slow_rankings_let_fewer_in_but_always_some",
       "unit/service/flow/test_gate.py::test_as_many_are_inside_as_are_answered_within_six_tenths_of_their_deadline")  # fmt: skip
proven("L7", "callers who hang up", "load",
       "e2e/test_callers.py::test_four_hundred_callers_who_hang_up_are_counted_as_499_and_nothing_else",
       "e2e/test_storm.py::test_every_caller_is_answered_and_nothing_is_left_behind")  # fmt: skip
proven("L10", "requests that waited while the process was stopped", "load",
       "e2e/test_callers.py::test_what_waited_while_the_process_was_stopped_is_refused_unscored_and_the_rest_is_served")  # fmt: skip
absent("A10", "an hour at 0.7 of the capacity", "the soak has a command of its own")
