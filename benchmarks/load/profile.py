"""Where a request's processor time goes: `python -m benchmarks.load.profile`.

Runs the service of this checkout (or of --checkout), loads it with wrk, and samples its Python stacks with py-spy, from
an environment of its own. The share of samples times CPU us a request is a function's us a request. A thread on top of
which a wait is seen has just been woken and waits for the interpreter's lock.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.environments import environment
from benchmarks.load.servers import Server, measure, our_service
from benchmarks.load.world import World, add_options, world
from contract.command_line import CommandError, run
from deploy.processes import ROOT

_PINS: Final = Path(__file__).with_name("profiler.txt")
_RATE: Final = 250  # samples a second
_ROOMS: Final = ("service/", "contract/")


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.profile", description=__doc__)
    add_options(parser)
    parser.add_argument("--checkout", type=Path, default=ROOT, help="whose service is profiled (default: this one)")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--top", type=int, default=25, help="lines of each table")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the service")
    options = parser.parse_args(arguments)
    return run("profile", lambda: _profile(options))


def _profile(options: argparse.Namespace) -> int:
    program = environment("profiler", _PINS) / "py-spy"
    settings = dict(one.split("=", 1) for one in options.set)
    with (
        world(options) as place,
        our_service(
            options.checkout.resolve(), redis_url=place.redis_url, bundles=place.bundles, logs=place.folder,
            settings=settings,
        ) as server,
    ):  # fmt: skip
        cpu_us, stacks = _sampled(place, server, program, options)
    print(f"{cpu_us:.0f} us CPU a request at {options.connections} connections, {sum(stacks.values())} samples")
    for title, counted in (("our file", by_file(stacks)), ("function", by_function(stacks))):
        print(f"\n| {title} | us a request | share |\n| --- | --- | --- |")
        for name, share in counted[: options.top]:
            print(f"| {name} | {share * cpu_us:.1f} | {share:.1%} |")
    return 0


def _sampled(
    place: World, server: Server, program: Path, options: argparse.Namespace
) -> tuple[float, Counter[tuple[str, ...]]]:
    wrk = place.wrk()
    wrk.run(server.url, 32, 2)
    cpu_us = measure(server, wrk, options.connections, options.seconds)["cpu_us"]  # without the profiler's pauses
    load = threading.Thread(target=wrk.run, args=(server.url, options.connections, options.seconds + 2))
    load.start()
    raw = place.folder / "stacks.txt"
    command = [str(program), "record", "--pid", str(server.process.pid), "--format", "raw", "--output", str(raw)]
    command += ["--duration", str(int(options.seconds)), "--rate", str(_RATE), "--subprocesses", "--nolineno"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    load.join()
    if not raw.exists():
        raise CommandError("py-spy took no samples (it needs the right to trace processes)", done.stderr)
    return cpu_us, read_stacks(raw.read_text(encoding="utf-8").splitlines())


def read_stacks(lines: Iterable[str]) -> Counter[tuple[str, ...]]:
    """Return how often each stack was seen, outermost frame first, from py-spy's raw format."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        found[tuple(stack.split(";"))] += int(count)
    return found


def by_file(stacks: Counter[tuple[str, ...]]) -> list[tuple[str, float]]:
    """Return the share of each of our files: a sample counts for its innermost frame in our code, with its callees."""
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        found[next((place for frame in reversed(stack) if (place := _ours(frame))), "elsewhere")] += count
    return _shares(found)


def by_function(stacks: Counter[tuple[str, ...]]) -> list[tuple[str, float]]:
    """Return the share of each function on top of a stack."""
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        found[stack[-1]] += count
    return _shares(found)


def _ours(frame: str) -> str:
    """Return the path of a frame's file inside its room; nothing for a file of another package."""
    file = frame.rpartition("(")[2].rstrip(")").partition(":")[0]
    if "site-packages" in file:
        return ""
    return next((file[file.index(room) :] for room in _ROOMS if room in file), "")


def _shares(found: Counter[str]) -> list[tuple[str, float]]:
    whole = sum(found.values()) or 1
    return [(name, count / whole) for name, count in found.most_common()]


if __name__ == "__main__":
    sys.exit(main())
