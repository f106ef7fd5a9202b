"""Measure the service: `python -m benchmarks.load`, or `make bench`. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.load import sweeps
from benchmarks.load.overload import overload
from benchmarks.load.servers import ROOT, Server
from benchmarks.load.sweeps import QUICK, Plan
from benchmarks.load.workload import made_histories, store
from benchmarks.load.world import MODEL, NO_CACHE, World, add_options, conditions, results_of, say, world, write
from benchmarks.report.pages import refresh
from contract.command_line import CommandError, run
from deploy.processes import run_step

MADE: Final = ROOT / ".bench" / "bundles"  # made-up catalogues, kept for the next run
_SMALL, _MIDDLE = 1_349, 4_000  # as the demo's data set; enough for 2,000 candidates
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
    document: dict[str, Any] = {"conditions": conditions(), "failed": {}}
    with world(options) as place, ExitStack() as stack:
        for name, measured in _sections(place, plan, stack).items():
            if name not in options.only:
                continue
            say(name)
            try:
                document[name] = measured()
            except CommandError as error:  # the other sections are still worth having
                document["failed"][name] = f"{error} {error.details}".strip()
                say(f"{name}: FAILED: {document['failed'][name]}")
            write(results_of(options) / "service.json", document)
    refresh(results_of(options))
    return 1 if document["failed"] else 0


def _sections(place: World, plan: Plan, stack: ExitStack) -> dict[str, Callable[[], Any]]:
    """Return what is measured, in order: with one service of default settings first, then with services of its own."""
    on = stack.enter_context(place.service("ours"))

    def with_new_users() -> Any:
        with place.service("memory") as server:
            return sweeps.memory(place, server, plan)

    return {
        **_plain(place, on, plan),
        "candidates": lambda: _candidates(place, plan),
        "catalogue": lambda: sweeps.catalogue(place, {n: made_bundle(n) for n in (_SMALL, plan.million)}, plan),
        "memory": with_new_users,
    }


def _plain(place: World, on: Server, plan: Plan) -> Mapping[str, Callable[[], Any]]:
    """Return the sections that use the demo's bundles and a service with default settings."""

    def with_off(measured: Callable[[Mapping[str, Server]], Any], arms: bool) -> Any:
        with ExitStack() as stack:
            servers = {"on": on, "off": stack.enter_context(place.service("no-cache", NO_CACHE))}
            if arms:
                servers["two arms"] = stack.enter_context(place.service("two-arms", place.two_arms()))
                servers["two workers"] = stack.enter_context(place.service("workers", {"RANKER_HTTP__WORKERS": "2"}))
            return measured(servers)

    capacity = _Capacity(place, on, plan)
    return {
        "connections": lambda: sweeps.connections(place, on, plan),
        "modes": lambda: with_off(lambda servers: sweeps.modes(place, servers, plan), arms=True),
        "histories": lambda: with_off(lambda servers: sweeps.histories(place, servers, plan), arms=False),
        "rates": lambda: sweeps.rates(place, on, capacity(), plan),
        "stages": lambda: sweeps.stages(place, on, capacity(), plan),
        "overload": lambda: overload(place, on, plan),
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
