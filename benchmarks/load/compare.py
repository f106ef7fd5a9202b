"""Two checkouts side by side: `python -m benchmarks.load.compare --base DIR_A --new DIR_B`.

Both services run on one Redis with the same bundles and users. wrk measures them in turn, round by round, so that
other work on the machine slows both down. Compare ratios and processor time, not requests a second.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.figures import median, medians, ratio
from benchmarks.load.counts import counted
from benchmarks.load.servers import ROOT, Server, measure, our_service, redis_server
from benchmarks.load.workload import bodies, read_asked, read_histories, store
from benchmarks.load.wrk import Wrk
from contract.command_line import run

USUAL = {"200", "499"}  # wrk leaves without the last answers
SHOWN = {
    "cpu_us": "CPU us/request",
    "rate": "requests/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "resident_mib": "MiB",
    "batch_rows": "rankings a batch",
    "hits": "states found",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.compare", description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="a checkout")
    parser.add_argument("--new", type=Path, required=True, help="another checkout")
    parser.add_argument("--bundles", type=Path, default=ROOT / "bundles")
    parser.add_argument("--behaviours", type=Path, default=ROOT / "data" / "ml-100k" / "behaviours.csv")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of both services")
    parser.add_argument("--set-new", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the new one")
    options = parser.parse_args(arguments)
    return run("compare", lambda: _compare(options))


def _compare(options: argparse.Namespace) -> int:
    users, items = read_asked(options.behaviours)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ranker-compare-")))
        wrk = Wrk(folder, bodies(users, items, options.candidates))
        url = stack.enter_context(redis_server())
        store(url, read_histories(options.behaviours))
        sides = {"base": (options.base, options.set), "new": (options.new, [*options.set, *options.set_new])}
        servers = [
            stack.enter_context(
                our_service(
                    checkout.resolve(),
                    redis_url=url,
                    bundles=options.bundles.resolve(),
                    logs=folder,
                    name=name,
                    settings=dict(one.split("=", 1) for one in chosen),
                )
            )
            for name, (checkout, chosen) in sides.items()
        ]
        for connections in options.connections:
            statuses: list[Counter[str]] = [Counter(), Counter()]
            base, new = _rounds(servers, wrk, connections, options, statuses)
            _show(connections, base, new, statuses)
    return 0


def _rounds(
    servers: Sequence[Server],
    wrk: Wrk,
    connections: int,
    options: argparse.Namespace,
    statuses: Sequence[Counter[str]],
) -> list[list[dict[str, float]]]:
    found: list[list[dict[str, float]]] = [[] for _ in servers]
    for server in servers:
        wrk.run(server.url, connections, 2)
    for number in range(options.rounds):
        order = list(enumerate(servers))
        for place, server in order if number % 2 == 0 else reversed(order):
            own: dict[str, float] = {}
            with counted(server.url, own, statuses[place]):
                figures = measure(server, wrk, connections, options.seconds)
            found[place].append(figures | own)
    return found


def _show(
    connections: int,
    base: Sequence[dict[str, float]],
    new: Sequence[dict[str, float]],
    statuses: Sequence[Counter[str]],
) -> None:
    """Print medians, and the median and range of the ratios of each round."""
    print(f"\n| {connections} connections | base | new | new / base, median (range) |\n| --- | --- | --- | --- |")
    for name, title in SHOWN.items():
        ratios = [ratio(two[name], one[name]) for one, two in zip(base, new, strict=True)]
        middles = [medians(rounds)[name] for rounds in (base, new)]
        spread = f"{median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {title} | {middles[0]:.2f} | {middles[1]:.2f} | {spread} |")
    for side, rounds, seen in (("base", base, statuses[0]), ("new", new, statuses[1])):
        refused, lost = (sum(one[name] for one in rounds) for name in ("refused", "lost"))
        if refused or lost:
            others = ", ".join(f"{seen[status]} with {status}" for status in sorted(set(seen) - USUAL))
            print(f"{side}: {refused:.0f} answers other than 2xx ({others}), {lost:.0f} requests lost")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
