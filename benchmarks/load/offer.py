"""Offers rankings at a fixed mean rate: `python -m benchmarks.load.offer --rate 500 --seconds 10`.

Open loop: requests are due at random moments (a Poisson process), and time counts from the moment at which a request
was due, so that a slow service cannot slow the measurement down. One thread, raw sockets: about 15 us a request.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import percentile
from benchmarks.load.sockets import FULL, Offered, Phase, offer
from benchmarks.load.workload import bodies, read_asked
from contract.command_line import run
from deploy.processes import port_number


def requests_of(contents: Sequence[bytes], deadline_ms: int, path: str = "/rank", more: str = "") -> list[bytes]:
    """Return the bytes of a request for each body; `more` are further header lines, each with its end."""
    head = f"POST {path} HTTP/1.1\r\nhost: ranker\r\ncontent-type: application/json\r\nx-deadline-ms: {deadline_ms}\r\n"
    head += more
    return [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in contents]


def goodput(offered: Offered, phase: int, seconds: float, deadline_ms: float) -> float:
    """Return full answers within the deadline, per second."""
    return sum(value <= deadline_ms / 1000 for value in offered.latencies(phase, FULL)) / seconds


def recovery_seconds(offered: Offered, phase: int, deadline_ms: float, bin_seconds: float = 0.25) -> float:
    """Return when a phase became good for its rest: from then on 95% of each bin's requests were answered in time."""
    began = offered.began[phase]
    bins: dict[int, list[bool]] = {}
    for one in offered.answers:
        if one.phase == phase:
            good = one.outcome == FULL and one.seconds <= deadline_ms / 1000
            bins.setdefault(int((one.due - began) / bin_seconds), []).append(good)
    bad = [place for place, goods in bins.items() if sum(goods) < 0.95 * len(goods)]
    return bin_seconds * (max(bad) + 1) if bad else 0.0


def summary(offered: Offered, phase: int, seconds: float, deadline_ms: float) -> dict[str, float]:
    """Return one phase's figures by name."""
    full = offered.latencies(phase, FULL)
    counts = offered.counts(phase)
    sent = sum(counts.values())
    return {
        "offered": sent / seconds,
        "goodput": goodput(offered, phase, seconds, deadline_ms),
        "full": len(full) / seconds,
        "degraded": counts["degraded"] / seconds,
        "refused": counts["429"] / seconds,
        "too_late": counts["504"] / seconds,
        "other": (sent - len(full) - sum(counts[one] for one in ("degraded", "429", "504"))) / seconds,
        "p50_ms": 1000 * percentile(full, 0.5),
        "p99_ms": 1000 * percentile(full, 0.99),
        "late_p99_ms": 1000 * percentile([one.late for one in offered.answers if one.phase == phase], 0.99),
        "generator_cores": offered.cpu_seconds[phase] / seconds,
    }


def report(offered: Offered, phases: Sequence[Phase], deadline_ms: int) -> str:
    """Return a few lines for people: goodput, and each outcome with its percentiles."""
    lines = []
    for place, phase in enumerate(phases):
        rate = goodput(offered, place, phase.seconds, deadline_ms)
        lines.append(f"offered {phase.rate:.0f}/s: goodput {rate:.0f}/s (full answers within {deadline_ms} ms)")
        for outcome, count in sorted(offered.counts(place).items()):
            values = [1000 * value for value in offered.latencies(place, outcome)]
            at = "  ".join(f"p{100 * share:.0f} {percentile(values, share):.1f}" for share in (0.5, 0.95, 0.99, 1.0))
            lines.append(f"{outcome:>14} {count:>7}  {at} ms")
        lines.append(f"generator: {offered.cpu_seconds[place] / phase.seconds:.2f} of a core")
    return "\n".join(lines)


def positive(text: str) -> float:
    """Read a number above 0 of a command line.

    Raises:
        ValueError: it is not one.
    """
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def whole(text: str) -> int:
    """Read a whole number above 0 of a command line.

    Raises:
        ValueError: it is not one.
    """
    if int(text) < 1:
        raise ValueError
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Offer, and print the report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.offer", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=port_number, default=8000)
    parser.add_argument("--rate", type=positive, nargs="+", default=[100.0], help="requests per second, phase by phase")
    parser.add_argument("--seconds", type=positive, default=10.0, help="of each phase")
    parser.add_argument("--candidates", type=whole, default=200)
    parser.add_argument("--deadline-ms", type=whole, default=150)
    parser.add_argument("--connections", type=whole, default=1_000, help="maximum number of kept connections")
    parser.add_argument("--new-connections", action="store_true", help="one connection per request")
    parser.add_argument("--behaviours", type=Path, required=True, help="CSV with the users and items to request")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    options = parser.parse_args(arguments)
    return run("offer", lambda: _offer(options))


def _offer(options: argparse.Namespace) -> int:
    users, items = read_asked(options.behaviours)
    requests = requests_of(bodies(users, items, options.candidates, seed=options.seed), options.deadline_ms)
    phases = [Phase(rate, options.seconds) for rate in options.rate]
    offered = offer(
        (options.host, options.port), requests, phases, random.Random(options.seed),
        connections=options.connections, is_kept=not options.new_connections,
    )  # fmt: skip
    if options.json:
        print(json.dumps([summary(offered, n, one.seconds, options.deadline_ms) for n, one in enumerate(phases)]))
    else:
        print(report(offered, phases, options.deadline_ms))
    return 0


if __name__ == "__main__":
    sys.exit(main())
