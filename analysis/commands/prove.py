"""`python -m analysis prove`: A/A and planted-effect replays of the report's statistics, judged by fixed gates."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from contract.progress import Progress

if TYPE_CHECKING:
    from analysis.proof.population import Population


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--out", type=Path, required=True, help="folder for proof.json, proof.md and proof.svg")
    parser.add_argument("--replays", type=_number(100, 100_000), default=2_000, help="salts (default 2000)")
    parser.add_argument("--users", type=_number(1_000, 1_000_000), default=20_000, help="simulated (default 20000)")
    parser.add_argument("--seed", type=_number(0, 2**31), default=1, help="of the simulated users (default 1)")
    parser.add_argument("--kuairand", type=Path, help="folder of KuaiRand-Pure's logs: real users too")
    parser.add_argument(
        "--workers", type=_number(1, 64), default=os.cpu_count() or 1, help="processes (default: cores)"
    )


def run(options: argparse.Namespace) -> int:
    """Run the proof; returns 1 if a check is not met."""
    from analysis.proof.judge import failures, judge
    from analysis.proof.results import write
    from analysis.proof.run import replay

    began, checks = time.monotonic(), {}
    options.out.mkdir(parents=True, exist_ok=True)  # a wrong place fails before the replays
    for population in _populations(options):
        with Progress(f"replays, {population.name}", options.replays) as progress:
            results = replay(population, options.replays, options.workers, progress.at)
        checks[population.name] = judge(*results, population.naive_like)
    write(options.out, checks, _command(options), time.monotonic() - began)
    failed = failures(checks)
    sys.stdout.write("\n".join([*failed, f"{options.out / 'proof.md'}"]) + "\n")
    return 1 if failed else 0


def _populations(options: argparse.Namespace) -> Iterator[Population]:
    from analysis.proof.kuairand import read_kuairand
    from analysis.proof.synthetic import synthetic

    real = read_kuairand(options.kuairand) if options.kuairand else None  # a wrong folder fails before the first replay
    yield synthetic(options.users, options.seed)
    if real is not None:
        yield real


def _command(options: argparse.Namespace) -> str:
    real = " --kuairand FOLDER" if options.kuairand else ""
    return f"python -m analysis prove --replays {options.replays} --users {options.users} --seed {options.seed}{real}"


def _number(least: int, most: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError(text)
        return value

    whole.__name__ = f"number from {least} to {most}"
    return whole
