"""The service beside other servers of the same model: `python -m benchmarks.peers`, or `make bench-peers`.

Every server gets the same bundle, the same Redis and the same requests, and its answers are compared with ours byte for
byte before it is measured. In each round every server is started, warmed, measured and stopped, so that nothing else
runs beside it; the order changes from round to round.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.environments import environment
from benchmarks.load.offer import requests_of, summary
from benchmarks.load.servers import HOST, Server, answers, measure, running
from benchmarks.load.sockets import Phase, offer
from benchmarks.load.usage import proportional_bytes
from benchmarks.load.workload import bodies
from benchmarks.load.world import MODEL, NO_CACHE, World, add_options, conditions, results_of, say, world, write
from benchmarks.load.wrk import Wrk
from benchmarks.peers.answers import ask, check_same, items_of
from benchmarks.peers.peer import ECHOES, PEERS, SERVERS, Peer, write_model_settings
from benchmarks.report.pages import refresh
from contract.command_line import CommandError, run
from deploy.processes import free_port

OURS: Final = {
    "ours": "ours, state cache on",
    "ours_no_cache": "ours, state cache off",
    "ours_two_arms": "ours, two arms, state cache on",
}
DEADLINE_MS: Final = 50
_COMPARED: Final = (300, 20)  # answers compared in the first round, and in the others
_LOOP_SECONDS: Final = 0.5


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int = 5
    alone_seconds: float = 2.0
    seconds: float = 3.0
    warm_seconds: float = 2.0
    rates: tuple[float, ...] = (200.0, 800.0, 3_200.0)
    open_seconds: float = 1.5


QUICK: Final = Plan(1, 1.0, 1.0, 1.0, (200.0,), 1.0)


@dataclass(frozen=True)
class Bench:
    """The parts that every visit shares."""

    place: World
    plan: Plan
    wrk: Wrk
    bodies: Sequence[bytes]
    expected: Sequence[bytes]
    bundle: Path
    answer: Path


Visit = Callable[[], AbstractContextManager[Server]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit status: 1 if a peer gave another answer or could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    add_options(parser)
    parser.add_argument("--only", nargs="+", default=[], help="names of servers (default: all)")
    parser.add_argument("--rounds", type=int, help="rounds (default: 5)")
    options = parser.parse_args(arguments)
    return run("peers", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    plan = QUICK if options.quick else Plan(rounds=options.rounds or Plan.rounds)
    failed: dict[str, str] = {}
    with world(options) as place:
        bench = _bench(place, plan)
        visits = _visits(bench, failed, options.only)
        rounds: list[dict[str, Any]] = []
        for number in range(plan.rounds):
            rounds.append(_round(bench, visits, number, failed))
            write(results_of(options) / "peers.json", _document(bench, rounds, failed))
    refresh(results_of(options))
    for name, why in failed.items():
        say(f"{name}: NOT MEASURED: {why}")
    return 1 if failed else 0


def _bench(place: World, plan: Plan) -> Bench:
    asked = bodies(place.users, place.items, 200)
    with place.service() as server:
        found = ask(server, asked[: _COMPARED[0]])
    version = json.loads(found[0])["version"]
    answer = place.folder / "answer.json"
    answer.write_bytes(found[0])
    write_model_settings(place.folder)
    bundle = place.bundles / MODEL / version
    return Bench(place, plan, Wrk(place.folder, asked), asked, [items_of(one) for one in found], bundle, answer)


def _visits(bench: Bench, failed: dict[str, str], only: Sequence[str]) -> dict[str, Visit]:
    """Return how each server is started; a peer that cannot be installed is reported and left out."""
    place = bench.place
    settings = {"ours": {}, "ours_no_cache": NO_CACHE, "ours_two_arms": place.two_arms()}
    visits: dict[str, Visit] = {
        name: lambda name=name: place.service(name, settings[name])  # type: ignore[misc]
        for name in OURS
        if not only or name in only
    }
    for peer in (*PEERS, *ECHOES):
        if only and peer.name not in only:
            continue
        try:
            programs = environment(peer.environment, peer.pins)
        except CommandError as error:
            failed[peer.name] = f"not installed: {error}: {error.details}"
            say(f"{peer.name}: {failed[peer.name]}")
            continue
        visits[peer.name] = lambda peer=peer, programs=programs: _peer(bench, peer, programs)  # type: ignore[misc]
    return visits


@contextmanager
def _peer(bench: Bench, peer: Peer, programs: Path) -> Iterator[Server]:
    port = free_port(0)
    variables = {
        **os.environ,
        **_variables(bench),
        **peer.settings(port),
        "PATH": f"{programs}:{os.environ.get('PATH', '')}",
    }
    with running(
        peer.name, peer.words(programs, port, bench.answer), port=port, environment=variables,
        folder=bench.place.folder, log=bench.place.folder / f"{peer.name}.log", is_ready=answers(peer.ready),
    ) as server:  # fmt: skip
        yield server


def _variables(bench: Bench) -> dict[str, str]:
    return {
        "BENCHMARK_REDIS": bench.place.redis_url,
        "BENCHMARK_BUNDLE": str(bench.bundle),
        "PYTHONPATH": str(SERVERS),
        "OMP_NUM_THREADS": "1",
    }


def _round(bench: Bench, visits: dict[str, Visit], number: int, failed: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    turn = number * 3 % max(1, len(visits))
    order = [*list(visits)[turn:], *list(visits)[:turn]]
    for name in order:
        if name in failed:
            continue
        try:
            found[name] = _visit(bench, name, visits[name], number)
        except (CommandError, OSError) as error:
            failed[name] = f"{error} {getattr(error, 'details', '')}".strip()
            say(f"{name}: FAILED: {failed[name]}")
            continue
        many = found[name]["closed"]["32"]
        say(f"round {number + 1}: {name}: {many['rate']:.0f}/s at 32, {many['cpu_us']:.0f} us CPU a request")
    if "fastapi" in visits:
        found["onnx_loop"] = _onnx_loop(bench)
    return found


def _visit(bench: Bench, name: str, start: Visit, number: int) -> dict[str, Any]:
    plan, began = bench.plan, time.monotonic()
    with start() as server:
        ready = time.monotonic() - began
        compared = 0
        if name not in ("echo", "echo_log", "ours_two_arms"):
            count = _COMPARED[min(number, 1)]
            compared = check_same(server, bench.bodies[:count], bench.expected[:count])
        bench.wrk.run(server.url, 32, plan.warm_seconds)
        durations = {1: plan.alone_seconds, 32: plan.seconds}
        closed = {str(count): measure(server, bench.wrk, count, seconds) for count, seconds in durations.items()}
        return {
            "start_seconds": ready,
            "compared": compared,
            "closed": closed,
            "open": {f"{rate:.0f}": _open(bench, server, rate) for rate in plan.rates},
            "proportional_mib": proportional_bytes(server.pids()) / 2**20,
            "processes": server.usage().processes,
        }


def _open(bench: Bench, server: Server, rate: float) -> dict[str, float]:
    phases = [Phase(rate, bench.plan.open_seconds)]
    requests = requests_of(bench.bodies, DEADLINE_MS)
    offered = offer((HOST, server.port), requests, phases, random.Random(1), connections=512)
    return summary(offered, 0, bench.plan.open_seconds, DEADLINE_MS)


def _onnx_loop(bench: Bench) -> dict[str, float]:
    command = [str(environment("fastapi", PEERS[0].pins) / "python"), str(SERVERS / "onnx_loop.py"), str(_LOOP_SECONDS)]
    done = subprocess.run(command, env={**os.environ, **_variables(bench)}, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _document(bench: Bench, rounds: list[dict[str, Any]], failed: dict[str, str]) -> dict[str, Any]:
    titles = {**OURS, **{peer.name: peer.title for peer in (*PEERS, *ECHOES)}}
    return {
        "conditions": {**conditions(), "candidates": 200, "deadline_ms": DEADLINE_MS, "items": len(bench.place.items)},
        "titles": titles,
        "failed": failed,
        "rounds": rounds,
    }


if __name__ == "__main__":
    sys.exit(main())
