"""The parts of a run: a real Redis, real services, the plain build, and traffic that is checked at its end."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

from benchmarks.load.servers import Server, answers, running
from benchmarks.peers.peer import SERVERS
from tests.faults.invariants import AS_USUAL, Expected, check_log, check_records, check_service, is_void, late
from tests.faults.row import Figure, Outcome
from tests.faults.snapshot import Snapshot, snapshot
from tests.faults.traffic import DEGRADED, LOST, REFUSED, Record, Traffic
from tests.faults.world import MODELS, World
from tests.support.processes import children, name_of, run_first, threads_of
from tests.support.redis_server import RedisServer, free_port
from tests.support.service_process import ServiceProcess

ROOT: Final = Path(__file__).resolve().parents[2]
DEADLINE_MS: Final = 250
PLAIN: Final = SERVERS / "serve_fastapi.py"
_IN_FORCE: Final = b'"new_digest":'  # in the line of an experiment file
_SETTLE_SECONDS: Final = 10.0  # V6: until then a service must be as small as before
_PRODUCTION: Final = {  # a test's service is more patient
    "REDIS__READ_TIMEOUT_MS": "20", "REDIS__WRITE_TIMEOUT_MS": "250", "LIMITS__DEADLINE_MS": str(DEADLINE_MS),
    "LIMITS__MAX_DEADLINE_MS": "2000", "HTTP__DRAIN_DELAY_MS": "3000",
}  # fmt: skip


class Service(ServiceProcess):
    """The real service with both arms, and the default limits of production."""

    models: ClassVar[tuple[str, ...]] = MODELS


class Rig:
    """Makes the parts of one run of a row and collects its outcome.

    Attributes:
        folder: empty, for this run.
        world: users, items, requests.
        is_quick: whether rows have their short size.
        bundles: folder of bundles for rows of load; None means the demo's.
        behaviours: CSV for rows of load; None means the demo's.
        services: all that were made.
    """

    def __init__(self, folder: Path, outcome: Outcome, options: argparse.Namespace) -> None:
        self.folder, self.seed, self._outcome = folder, outcome.seed, outcome
        self.is_quick = options.quick or options.short
        self.bundles, self.behaviours = options.bundles, options.behaviours
        self.world = World(outcome.seed)
        self._stack = ExitStack()
        self.services: list[Service] = []

    def pick(self, quick: float, full: float) -> float:
        """Return the size of a run."""
        return quick if self.is_quick else full

    def empty(self, name: str) -> Path:
        """Return a new folder."""
        made = self.folder / name
        made.mkdir()
        return made

    def redis(self, **options: Any) -> RedisServer:
        """Start a Redis of its own with everyone's history."""
        server = RedisServer(**options).start()
        self._stack.callback(server.close)
        self.world.store(server.url)
        return server

    def service(
        self, redis: RedisServer | str, *, name: str = "service", versions: tuple[str, ...] = ("1",), warm: bool = True,
        command: tuple[str, ...] = (), output: int | None = None, parts: Mapping[str, Any] = {}, **settings: str,
    ) -> Service:  # fmt: skip
        """Start a service and wait until it is ready; `warm`: see tests/support/warm_service.py."""
        made = self.prepared(redis, name=name, versions=versions, parts=parts, **settings)
        if warm:
            return self.started(made.start(output))
        return self.cold(made, output, *command)

    def cold(self, made: Service, output: int | None = None, *command: str) -> Service:
        """Start a new interpreter, which does its imports. For what is timed."""
        made.spawn(output, *command)
        return self.started(self.until_ready(made))

    def prepared(
        self, redis: RedisServer | str, *, name: str = "service", versions: tuple[str, ...] = ("1",),
        parts: Mapping[str, Any] = {}, **settings: str,
    ) -> Service:  # fmt: skip
        """Return a service that is not started; `parts` are those of its bundles."""
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir()
            self.world.write(folder, versions, parts)
        url = redis if isinstance(redis, str) else redis.url
        made = Service(folder, url, **{**_PRODUCTION, **settings})
        self.services.append(made)
        self._stack.callback(made.close)
        return made

    def started(self, service: ServiceProcess) -> Service:
        """Send some requests, so that what is made at the first one is made."""
        with Traffic(service.port, self.world, rate=100) as warm:
            warm.mark("warm", 0.4)
        assert isinstance(service, Service)
        return service

    @staticmethod
    def until_ready(service: Service) -> Service:
        service.until(lambda: answers("/health/ready")(service.port), "ready")
        return service

    def adopt(self, old: Service) -> Service:
        """Return a service with the same settings and port, not started."""
        made = old.successor()
        made.log_file = old.folder / f"log-{len(self.services)}"
        assert isinstance(made, Service)
        self.services.append(made)
        self._stack.callback(made.close)
        return made

    @contextmanager
    def plain(
        self, redis: RedisServer | str, *, bundle: Path | None = None, server: Path = PLAIN, port: int = 0,
        command: tuple[str, ...] = (), parts: Mapping[str, Any] = {},
    ) -> Iterator[Server]:  # fmt: skip
        """Run the plain build: the same route on stock FastAPI, uvicorn and redis-py defaults."""
        port = port or free_port()
        folder = self.folder / f"plain-{port}"
        if not folder.exists():
            folder.mkdir()
            self.world.write(folder, parts=parts)
        variables = {
            **os.environ,
            "BENCHMARK_REDIS": redis if isinstance(redis, str) else redis.url,
            "BENCHMARK_BUNDLE": str(bundle or folder / "bundles" / MODELS[0] / "1"),
            "PYTHONPATH": str(SERVERS),
            "OMP_NUM_THREADS": "1",
        }
        with running(
            "plain", [*command, sys.executable, str(server), str(port)], port=port, environment=variables,
            folder=folder, log=folder / "log", is_ready=answers("/health"),
        ) as made:  # fmt: skip
            yield made

    @contextmanager
    def traffic(
        self, service: Service | int, *, rate: float, expected: Expected = AS_USUAL, others: Mapping[str, int] = {},
        deadline_ms: int = DEADLINE_MS, **options: Any,
    ) -> Iterator[Traffic]:  # fmt: skip
        """Offer traffic during the block, then check every invariant; a port is that of a proxy or a shared port."""
        before = snapshot(service) if isinstance(service, Service) else None
        port = service if isinstance(service, int) else service.port
        with Traffic(port, self.world, rate=rate, deadline_ms=deadline_ms, seed=self.seed, **options) as made:
            yield made
        self.problems(check_records(made.records, expected))
        self._note_lost(made)
        if before is not None and isinstance(service, Service):
            self.problems(self._settled(service, before, made.records, expected, others))
        self.count(made.records, deadline_ms)

    def put_experiments(self, services: Sequence[Service], file: Path) -> None:
        """Move an experiment file to the place where these services read it, and wait until each has it in force."""
        before = [one.log_file.stat().st_size for one in services]
        file.rename(services[0].experiments)
        for service, size in zip(services, before, strict=True):
            self.until(partial(_has_accepted, service, size), "a new experiment file in force")

    @staticmethod
    def as_on_other_machines(traffic: Traffic) -> bool:
        """Let the caller, the proxy and Redis run before the replicas; False if that is not permitted here.

        Else a process that starts on their core delays each of them by up to a tick of the kernel, 4 ms. That would be
        most of the p99, and no replica could change it.
        """
        others = [pid for pid in children(os.getpid()) if name_of(pid) in {"haproxy", "redis-server"}]
        return run_first([traffic.thread, *(thread for pid in others for thread in threads_of(pid))])

    def _settled(
        self, service: Service, before: Snapshot, records: list[Record], expected: Expected, others: Mapping[str, int]
    ) -> list[str]:
        """Check a service, again and again until it has come to rest."""
        end = time.monotonic() + _SETTLE_SECONDS
        while True:
            problems = check_service(before, snapshot(service), records, expected, others)
            if not problems or time.monotonic() > end:
                return problems
            time.sleep(0.2)

    def count(self, records: list[Record], deadline_ms: float) -> None:
        """Add requests to the outcome of the row."""
        counts = Counter(self._outcome.counts) + Counter(one.outcome for one in records)
        counts["late"] += late(records, deadline_ms)
        self._outcome.counts = dict(counts)
        if is_void(records):
            self.note("the generator was late (p99 over 5 ms): times do not count")
        arms = {one.user: one.seen.variant for one in records if one.seen.variant}
        for one in records:
            if one.user in arms:
                found = self._outcome.by_arm.setdefault(arms[one.user], {"asked": 0, "not full": 0})
                found["asked"] += 1
                found["not full"] += one.outcome == DEGRADED or one.outcome.isdecimal()

    def _note_lost(self, traffic: Traffic) -> None:
        """Note when requests were lost: the first thing that a reader asks."""
        for one in [one for one in traffic.records if one.outcome in LOST | REFUSED][:3]:
            phase = next((name for name, moment in reversed(traffic.marks) if moment <= one.due), "start")
            since = one.due - traffic.began(phase) if traffic.marks else 0
            self.note(f"{one.outcome}: request {one.number}, {since:.2f} s after {phase}, for {one.seconds:.2f} s")

    def figure(self, bar: str, what: str, value: float, unit: str = "", **bounds: float | None) -> None:
        """Note a figure; see `Figure`."""
        self._outcome.figures.append(Figure(bar, what, value, unit, **bounds))

    def asked(self, count: int, outcome: str = "hostile") -> None:
        """Add requests that have no record of their own."""
        self._outcome.counts[outcome] = self._outcome.counts.get(outcome, 0) + count

    def note(self, text: str) -> None:
        if text not in self._outcome.notes:
            self._outcome.notes.append(text)

    def problems(self, found: list[str]) -> None:
        self._outcome.problems += found

    def require(self, is_so: object, text: str) -> None:
        """Note a problem unless something is so."""
        if not is_so:
            self._outcome.problems.append(text)

    def ended(self, service: Service, status: int = 0, number: signal.Signals | None = signal.SIGTERM) -> None:
        """V10: end a service and check its exit status."""
        if number is not None:
            service.send(number)
        try:
            found = service.wait(30)
        except subprocess.TimeoutExpired:
            return self.require(False, "V10: it does not end")
        return self.require(found == status, f"V10: exit status {found}, not {status}")

    def until(self, is_so: Callable[[], object], what: str, seconds: float = 30) -> float:
        """Wait for a condition; returns how long it took. A timeout is a problem of the row."""
        began = time.monotonic()
        while True:
            with suppress(OSError):
                if is_so():
                    return time.monotonic() - began
            if time.monotonic() - began > seconds:
                self.require(False, f"not {what} after {seconds:.0f} s")
                return time.monotonic() - began
            time.sleep(0.01)

    def close(self) -> None:
        """Stop everything, and check the logs."""
        for service in self.services:
            if service._process is not None and service.process.poll() is None:
                service.send(signal.SIGCONT)  # type: ignore[arg-type]
                self.ended(service, number=signal.SIGINT)  # as SIGTERM, without the delay
        for service in self.services:
            if service.log_file.exists():
                self.problems(check_log(service.log().splitlines()))
        self._stack.close()


def _has_accepted(service: Service, size: int) -> bool:
    """Return whether its log has such a line after so many bytes; many scrapes a second would slow it down."""
    with service.log_file.open("rb") as log:
        log.seek(size)
        return _IN_FORCE in log.read()
