"""A good caller beside a greedy one, with API keys and quotas: `python -m benchmarks.load.neighbour`.

The good caller ranks at a low fixed rate, in an open loop. The greedy one is `wrk` with 32 connections, each of which
sends its next ranking as soon as the last one is answered or refused. Each round measures every case once, in turn;
many short rounds share the noise of the machine among the cases, and percentiles are of all rounds together:

- calm: no greedy caller.
- quota: the greedy caller has a quota and is far over it.
- no quota: the greedy caller has a key without a quota.
- no keys: a service without an access file.
- rush, rush without keys: as the two before, with four times as many connections, which is more than the gate lets in.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import median, percentile, ratio
from benchmarks.load.offer import requests_of
from benchmarks.load.servers import HOST, Server
from benchmarks.load.sockets import FULL, Phase, offer
from benchmarks.load.workload import bodies
from benchmarks.load.world import Figures, World, add_options, conditions, interleaved, say, world, write
from benchmarks.load.wrk import Closed, Wrk
from benchmarks.markdown import table
from contract.command_line import run
from deploy.processes import ROOT
from service.access.keys import hash_of, new_key

RESULTS: Final = ROOT / "benchmarks" / "results" / "access"
QUICK_RESULTS: Final = ROOT / ".bench" / "quick" / "access"
CALLERS: Final = ("good", "greedy", "hungry")
Latencies = dict[str, list[float]]  # ms of the good caller's answers, by case
CALM: Final = "calm"
_RUSH: Final = 4  # times as many connections
_LEAD_SECONDS: Final = 1.0  # of greed, before and after the good caller
_DEADLINE_MS: Final = 2_000  # a late answer is measured, not refused
_PERCENTILES: Final = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}
_POOLED: Final = {"p50_ms": "good p50, ms", "p90_ms": "p90", "p99_ms": "p99"}
_SHOWN: Final = {
    "full": "good answered, share",
    "greedy_answered": "greedy answered/s", "greedy_refused": "greedy refused/s", "cores": "service, cores",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.neighbour", description=__doc__)
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE", help="cases beside calm (default: all)")
    parser.add_argument("--rate", type=float, default=50.0, help="the good caller's rankings per second")
    parser.add_argument("--connections", type=int, default=32, help="of the greedy caller")
    parser.add_argument("--quota", type=float, default=200.0, help="the greedy caller's requests per second")
    parser.add_argument("--candidates", type=int, default=200)
    options = parser.parse_args(arguments)
    return run("neighbour", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    keys = {name: new_key() for name in CALLERS}
    with world(options) as place, ExitStack() as stack:
        settings = {"RANKER_ACCESS__FILE": str(_access_file(place.folder, keys, options.quota))}
        keyed = stack.enter_context(place.service("keyed", settings))
        plain = stack.enter_context(place.service("plain"))
        latencies: Latencies = {}
        cases = _cases(place, keyed, plain, keys, options, latencies)
        for measured in cases.values():
            measured()  # so that everything is warm
        latencies.clear()
        say(f"{options.rounds} rounds of {', '.join(cases)}")
        found = interleaved(cases, options.rounds)
    for name, values in latencies.items():
        pooled = {key: percentile(values, share) for key, share in _PERCENTILES.items()}
        found[name]["pooled"] = {"count": len(values), **pooled}
    document = {"conditions": conditions(), "options": _shown(options), "cases": found}
    folder = options.out or (QUICK_RESULTS if options.quick else RESULTS)
    write(folder / "neighbour.json", document)
    text = page(document)
    (folder / "neighbour.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def _access_file(folder: Path, keys: Mapping[str, str], quota: float) -> Path:
    lines = ["callers:"]
    for name, key in keys.items():
        limit = f", quota: {{requests_per_second: {quota}}}" if name == "greedy" else ""
        lines.append(f"  - {{id: {name}, keys: ['{hash_of(key)}'], scopes: [rank, admin]{limit}}}")
    path = folder / "access.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _cases(
    place: World,
    keyed: Server,
    plain: Server,
    keys: Mapping[str, str],
    options: argparse.Namespace,
    latencies: Latencies,
) -> dict[str, Callable[[], Figures]]:
    def greedy(name: str) -> Wrk:
        headers = {"authorization": f"Bearer {keys[name]}"} if name else {}
        return Wrk(place.folder, bodies(place.users, place.items, options.candidates, seed=2), headers)

    def case(name: str, server: Server, good: str, wrk: Wrk | None, times: int = 1) -> Callable[[], Figures]:
        more = f"authorization: Bearer {keys[good]}\r\n" if good else ""
        contents = bodies(place.users, place.items, options.candidates)
        rankings = requests_of(contents, _DEADLINE_MS, more=more)
        connections = times * options.connections

        def measured() -> Figures:
            figures, found = _beside(server, rankings, wrk, connections, options)
            latencies.setdefault(name, []).extend(found)
            return figures

        return measured

    every: dict[str, tuple[Server, str, Wrk | None, int]] = {
        CALM: (keyed, "good", None, 1),
        "quota": (keyed, "good", greedy("greedy"), 1),
        "no quota": (keyed, "good", greedy("hungry"), 1),
        "no keys": (plain, "", greedy(""), 1),
        "rush": (keyed, "good", greedy("hungry"), _RUSH),
        "rush without keys": (plain, "", greedy(""), _RUSH),
    }
    chosen = [name for name in every if name == CALM or not options.only or name in options.only]
    return {name: case(name, *every[name]) for name in chosen}


def _beside(
    server: Server, rankings: Sequence[bytes], wrk: Wrk | None, connections: int, options: argparse.Namespace
) -> tuple[Figures, list[float]]:
    """Return the figures and the latencies of the good caller, while the greedy one does its worst."""
    closed: list[Closed] = []
    with _greed(wrk, server, connections, options, closed):
        before = server.usage().cpu_seconds
        phases = [Phase(options.rate, options.seconds)]
        draw = random.Random(time.time_ns())
        offered = offer((HOST, server.port), rankings, phases, draw, connections=8)
        cores = (server.usage().cpu_seconds - before) / options.seconds
    latencies = [1000 * value for value in offered.latencies(0, FULL)]
    return {
        "p99_ms": percentile(latencies, 0.99),
        "full": ratio(len(latencies), len(offered.answers)),
        "late_p99_ms": 1000 * percentile([one.late for one in offered.answers], 0.99),
        "greedy_answered": closed[0].rate if closed else 0.0,
        "greedy_refused": closed[0].refused / closed[0].seconds if closed else 0.0,
        "cores": cores,
    }, latencies


@contextmanager
def _greed(wrk: Wrk | None, server: Server, connections: int, options: argparse.Namespace, closed: list[Closed]) -> Any:
    """Run the greedy caller, in a process of its own, from before the block until after it."""
    if wrk is None:
        yield
        return
    seconds = options.seconds + 3 * _LEAD_SECONDS
    thread = threading.Thread(target=lambda: closed.append(wrk.run(server.url, connections, seconds)))
    thread.start()
    time.sleep(_LEAD_SECONDS)
    yield
    thread.join()


def page(document: Mapping[str, Any]) -> str:
    """Return the result as Markdown: medians over rounds, and the ratio to the calm case of the same round."""
    cases, options, where = document["cases"], document["options"], document["conditions"]
    rows = []
    for name in cases:
        figures = cases[name]["median"]
        pooled, calm = cases[name]["pooled"], cases[CALM]["pooled"]
        row = [name, *[_number(pooled[key]) for key in _POOLED], f"{ratio(pooled['p99_ms'], calm['p99_ms']):.2f}"]
        row += [_ratios(cases[name]["rounds"], cases[CALM]["rounds"]), *[_number(figures[key]) for key in _SHOWN]]
        rows.append(row)
    return (
        f"{options['rounds']} interleaved rounds of {options['seconds']:.0f} s; the good caller sends "
        f"{options['rate']:.0f} rankings/s of {options['candidates']} candidates, the greedy one uses "
        f"{options['connections']} connections and has a quota of {options['quota']:.0f} requests/s.\n"
        f"{where['cores']} cores ({where['processor']}), shared with both callers and Redis; commit {where['commit']}, "
        f"{where['date']}; `{where['command']}`.\n\n"
        + "\n".join(table(["case", *_POOLED.values(), "p99 / calm p99", "median of rounds", *_SHOWN.values()], rows))
        + "\n"
    )


def _ratios(rounds: Sequence[Figures], calm: Sequence[Figures]) -> str:
    found = [ratio(one["p99_ms"], other["p99_ms"]) for one, other in zip(rounds, calm, strict=True)]
    return f"{median(found):.2f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _shown(options: argparse.Namespace) -> dict[str, float]:
    names = ("rounds", "seconds", "rate", "connections", "quota", "candidates")
    return {name: getattr(options, name) for name in names}


if __name__ == "__main__":
    sys.exit(main())
