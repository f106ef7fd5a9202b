"""Two replicas behind HAProxy: planned work and a killed replica, under load."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from deploy.experiments import write_current
from tests.faults.invariants import ALLOWED, Expected
from tests.faults.rig import Rig, Service
from tests.faults.row import row
from tests.faults.traffic import LOST, REFUSED, Record, Traffic, p99_ms
from tests.faults.world import MODELS, model
from tests.support.haproxy import proxy

_SWAP: Final = "bundle swap"
_EXPERIMENT: Final = "experiment change"
_RESTARTS: Final = "restart of each replica"
_KILL: Final = "a killed replica"
# The time from the beginning of an event whose requests count for it. One that is over sooner counts for as long: else a
# replica that is ready in half the time would double the share of the requests that its start slowed down.
_SECONDS: Final = {_SWAP: 2.0, _EXPERIMENT: 2.0, _RESTARTS: 10.0, _KILL: 3.0}
_HASTY: Final = "both replicas restarted at once"
_MOST_SLOWER: Final = 1.5
_RANKED: Final = '"route":"/rank"'  # in an access line


@row("B10", "two replicas behind HAProxy: swap, experiment, restarts, a kill", "lifecycle", quick=True, seeds=1)
def rolled(rig: Rig) -> None:
    redis = rig.redis()
    one = rig.service(redis, name="one", warm=False, EXPERIMENTS__RELOAD_MS="500")
    two = rig.prepared(
        redis,
        name="two",
        EXPERIMENTS__RELOAD_MS="500",
        BUNDLES__ROOT=str(one.bundles),
        EXPERIMENTS__FILE=str(one.experiments),
    )
    replicas = [one, rig.cold(two)]
    repeats = int(rig.pick(1, 5))
    staged = rig.empty("staged")
    files = _staged(staged, one.experiments, repeats)
    # 502 and 503 are the proxy's own: a request that it could send to no replica.
    with (
        proxy(replicas[0].port, replicas[1].port, one.folder) as port,
        rig.traffic(port, rate=rig.pick(80, 100), expected=Expected(ALLOWED)) as traffic,
    ):
        runs_first = rig.as_on_other_machines(traffic)
        for turn in range(repeats):
            _quiet(rig, traffic)
            with _event(traffic, _SWAP):
                for name in MODELS:
                    (staged / name / str(turn + 2)).rename(one.bundles / name / str(turn + 2))
                rig.put_experiments(replicas, next(files))
            with _event(traffic, _EXPERIMENT):
                rig.put_experiments(replicas, next(files))  # other users get the treatment
                rig.put_experiments(replicas, next(files))
            with _event(traffic, _RESTARTS):
                for place in (0, 1):
                    replicas[place] = _restarted(rig, replicas[place])
            _quiet(rig, traffic)
            with _event(traffic, _KILL):
                replicas[turn % 2] = _killed(rig, replicas[turn % 2])
        _quiet(rig, traffic)
    _compare(rig, traffic, repeats, "" if runs_first else ", which other processes delay")


def _quiet(rig: Rig, traffic: Traffic) -> None:
    """Wait before and after events, so that both see the same machine, and replicas that have started as recently."""
    traffic.mark("settling", rig.pick(0.5, 2))
    traffic.mark("quiet", rig.pick(2, 10))


@contextmanager
def _event(traffic: Traffic, name: str) -> Iterator[None]:
    traffic.mark(name)
    began = time.monotonic()
    yield
    traffic.mark(name, max(0.5, _SECONDS[name] - (time.monotonic() - began)))


@row("B10", "two replicas stopped one after another, without a wait", "lifecycle", quick=True, seeds=1)
def hasty(rig: Rig) -> None:
    """Stop the second replica while the first one still starts: for seconds, none is ready.

    The drain's delay is far shorter than a start, so that only callers who still ask keep the second one open.
    """
    redis = rig.redis()
    settings = {"HTTP__DRAIN_DELAY_MS": "200", "HTTP__DRAIN_WHILE_ASKED_MS": "30000"}
    one = rig.service(redis, name="one", warm=False, **settings)
    two = rig.prepared(
        redis, name="two", BUNDLES__ROOT=str(one.bundles), EXPERIMENTS__FILE=str(one.experiments), **settings
    )
    replicas = [one, rig.cold(two)]
    repeats = int(rig.pick(2, 10))
    with (
        proxy(replicas[0].port, replicas[1].port, one.folder) as port,
        rig.traffic(port, rate=rig.pick(40, 80), expected=Expected(ALLOWED)) as traffic,
    ):
        traffic.mark("quiet", rig.pick(2, 10))
        for _ in range(repeats):
            traffic.mark(_HASTY)
            starting = _stopped_for(rig, replicas[0])
            stopping = rig.adopt(replicas[1])
            replicas[1].send(signal.SIGTERM)
            replicas[1].until(partial(_is_asked, replicas[1]), "asked after its drain's delay")
            starting.spawn()
            rig.until_ready(starting)  # takes longer than the drain's delay
            rig.ended(replicas[1], number=None)
            replicas = [starting, _started(rig, stopping)]
            traffic.mark("quiet again", rig.pick(1, 5))
    failed = _failed(records := traffic.phase(_HASTY))
    rig.figure("B10", f"lost or refused of {len(records):,}: {_HASTY}, {repeats} times", failed, most=0)
    rig.require(not failed, f"{failed} requests lost or refused: {_HASTY}")


def _is_asked(draining: Service) -> bool:
    return "draining_while_asked" in draining.log()


def _stopped_for(rig: Rig, old: Service) -> Service:
    """Stop a replica; returns the one that is to be started in its place."""
    new = rig.adopt(old)
    rig.ended(old)
    return new


def _compare(rig: Rig, traffic: Traffic, repeats: int, manner: str) -> None:
    quiet = p99_ms(traffic.phase("quiet"))
    for phase in _SECONDS:
        records = traffic.phase(phase)
        failed = _failed(records)
        what = f"lost or refused of {len(records):,}: {phase}, {repeats} times"
        # At a kill, what the replica had begun to answer is lost; all else is sent to the other one.
        rig.figure("B10", what, failed, most=8 * repeats if phase == _KILL else 0)
        rig.require(phase == _KILL or not failed, f"{failed} requests lost or refused: {phase}")
        rig.figure(
            "B10", f"p99 of the quiet phases' {quiet:.1f} ms: {phase}{manner}", p99_ms(records) / quiet, "x",
            most=_MOST_SLOWER,
        )  # fmt: skip


def _failed(records: list[Record]) -> int:
    """Return requests without an answer of a replica."""
    return sum(one.outcome in LOST | REFUSED | {"502", "503"} for one in records)


def _staged(folder: Path, experiments: Path, repeats: int) -> Iterator[Path]:
    """Write the bundles and the experiment files of all turns, before the traffic: this process is the caller too.

    Returns the files in their order: with the new bundles, with the experiment stopped and another one, which gives
    its treatment to other users, and with the first one again.
    """
    newest = folder / "newest.yaml"
    shutil.copy(experiments, newest)
    made: list[Path] = []
    for version in map(str, range(2, 2 + repeats)):
        for name in MODELS:
            model(name, version).write(folder)
        for treatment in (None, MODELS[0], None):
            write_current(newest, follow=True, treatment=treatment, versions=dict.fromkeys(MODELS, version))
            made.append(Path(shutil.copy(newest, folder / f"experiments-{len(made)}.yaml")))
    return iter(made)


def _restarted(rig: Rig, old: Service) -> Service:
    """Stop a replica, and start it again when it has ended, as an orchestrator does."""
    new = rig.adopt(old)
    rig.ended(old)
    return _started(rig, new)


def _killed(rig: Rig, old: Service) -> Service:
    new = rig.adopt(old)
    old.send(signal.SIGKILL)
    old.wait()
    return _started(rig, new)


def _started(rig: Rig, new: Service) -> Service:
    """Start a replica, and wait until the proxy sends it requests: before that, the other one must not be stopped."""
    new.spawn()
    rig.until_ready(new)
    rig.until(lambda: _RANKED in new.log(), "used by the proxy")
    return new
