"""Measure the service: `python -m benchmarks.load`, or `make bench`. What is measured: benchmarks/README.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.load import sweeps
from benchmarks.load.servers import ROOT, Server
from benchmarks.load.sweeps import QUICK, Plan
from benchmarks.load.workload import made_histories, store
from benchmarks.load.world import MODEL, NO_CACHE, World, add_options, conditions, results_of, say, world, write
from benchmarks.report import refresh
from contract.command_line import run
from deploy.processes import run_step

MADE: Final = ROOT / ".bench" / "bundles"  # made-up catalogues, kept for the next run
_SMALL, _MIDDLE = 1_349, 20_000  # as the demo's data set; enough for 2,000 candidates
SECTIONS: Final = (
    "connections", "modes", "histories", "rates", "stages", "overload", "candidates", "catalogue", "memory",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    add_options(parser)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections (default: all)")
    options = parser.parse_args(arguments)
    return run("bench", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    plan = QUICK if options.quick else Plan()
    document: dict[str, Any] = {"conditions": conditions()}
    with world(options) as place:
        for name, found in _sections(place, plan, options.only):
            document[name] = found
            write(results_of(options) / "service.json", document)
    refresh(results_of(options))
    return 0


def _sections(place: World, plan: Plan, wanted: Sequence[str]) -> Any:
    """Yield each section's name and figures; services that a later section does not need are stopped first."""
    with ExitStack() as stack:
        on = stack.enter_context(place.service("ours"))
        for name, measured in _plain(place, on, plan).items():
            if name in wanted:
                say(name)
                yield name, measured()
    if "candidates" in wanted:
        say("candidates")
        yield "candidates", _candidates(place, plan)
    if "catalogue" in wanted:
        say("catalogue")
        yield "catalogue", sweeps.catalogue(place, {n: made_bundle(n) for n in (_SMALL, plan.million)}, plan)
    if "memory" in wanted:
        say("memory")
        with place.service("memory") as server:
            yield "memory", sweeps.memory(place, server, plan)


def _plain(place: World, on: Server, plan: Plan) -> Mapping[str, Callable[[], Any]]:
    """Return the sections that use the demo's bundles and a service with default settings."""

    def with_off(measured: Callable[[Mapping[str, Server]], Any], arms: bool) -> Any:
        with ExitStack() as stack:
            servers = {"on": on, "off": stack.enter_context(place.service("no-cache", NO_CACHE))}
            if arms:
                servers["two arms"] = stack.enter_context(place.service("two-arms", place.two_arms()))
            return measured(servers)

    capacity = _Capacity(place, on, plan)
    return {
        "connections": lambda: sweeps.connections(place, on, plan),
        "modes": lambda: with_off(lambda servers: sweeps.modes(place, servers, plan), arms=True),
        "histories": lambda: with_off(lambda servers: sweeps.histories(place, servers, plan), arms=False),
        "rates": lambda: sweeps.rates(place, on, capacity(), plan),
        "stages": lambda: sweeps.stages(place, on, capacity(), plan),
        "overload": lambda: sweeps.overload(place, on, capacity(), plan),
    }


class _Capacity:
    """The rate of a closed loop at 32 connections, measured when it is first asked for."""

    def __init__(self, place: World, server: Server, plan: Plan) -> None:
        self._place, self._server, self._plan, self._found = place, server, plan, 0.0

    def __call__(self) -> float:
        if not self._found:
            wrk = self._place.wrk()
            sweeps.warm(self._server, wrk)
            rates = sorted(wrk.run(self._server.url, 32, self._plan.seconds).rate for _ in range(3))
            self._found = rates[1]
        return self._found


def _candidates(place: World, plan: Plan) -> Any:
    bundles, _ = made_bundle(_MIDDLE)
    items = [f"item-{number}" for number in range(1, _MIDDLE + 1)]
    users = [f"candidates-{number}" for number in range(500)]
    store(place.redis_url, made_histories(users, items, 50))
    with place.service("items", bundles=bundles) as server:
        return sweeps.candidates(place, server, items, users, plan)


def made_bundle(items: int) -> tuple[Path, int]:
    """Return a folder of bundles with one catalogue of that many items, and the bytes of its item table."""
    folder = MADE / str(items)
    if not list(folder.glob(f"{MODEL}/*/manifest.json")):
        run_step(("benchmarks.catalogue", "--items", str(items), "--out", str(folder)))
    (version,) = (path.parent for path in folder.glob(f"{MODEL}/*/manifest.json"))
    tables = [np.load(path, mmap_mode="r") for path in version.glob("*.npy")]
    largest = max((table.nbytes for table in tables if table.ndim == 2), default=0)
    return folder, largest or (items + 1) * 64 * 4


if __name__ == "__main__":
    sys.exit(main())
