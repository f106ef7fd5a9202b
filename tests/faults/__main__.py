"""Inject faults into the real service and check what callers see: `make faults` and `make faults-full`.

docs/reliability.md explains the rows, the invariants and the bars.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from contract.command_line import run
from tests.faults import report
from tests.faults.proofs import run_tests
from tests.faults.rig import ROOT, Rig
from tests.faults.row import ROWS, Outcome, Row
from tests.faults.rows import load_all

RESULTS = ROOT / "benchmarks" / "results" / "faults"
TRIED = ROOT / ".bench" / "faults"  # of a part of the rows: not a result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run rows; returns the exit status: 1 if an invariant did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs of the rows that matter most")
    parser.add_argument("--short", action="store_true", help="every row in its short size")
    parser.add_argument("--only", nargs="+", default=[], help="rows, such as R3, or families, such as redis")
    parser.add_argument("--add", action="store_true", help="put the rows of --only into the results that are there")
    parser.add_argument("--list", action="store_true", help="print the rows and how long each took the last time")
    parser.add_argument("--seeds", type=int, help="runs of each row (default: as the row has it)")
    parser.add_argument("--bundles", type=Path, help="folder of bundles for rows of load (default: the demo's)")
    parser.add_argument("--behaviours", type=Path, help="CSV of behaviours for rows of load (default: the demo's)")
    parser.add_argument("--out", type=Path, help="folder of results")
    options = parser.parse_args(arguments)
    return run("faults", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    load_all()
    size = "quick" if options.quick else "short" if options.short else "full"
    folder = options.out or (TRIED if options.only and not options.add else RESULTS)
    chosen = [row for row in ROWS if _is_chosen(row, options)]
    if options.list:
        print("\n".join(report.lengths(folder, size, chosen)))
        return 0
    began, outcomes = time.monotonic(), list[Outcome]()
    kept = [one for one in report.read(folder, size) if one.row not in chosen] if options.add else []
    before = sum(one.seconds for one in kept)
    for outcome in _outcomes(chosen, options):
        outcomes.append(outcome)
        _say(outcome)
        both = sorted([*kept, *outcomes], key=lambda one: ROWS.index(one.row))
        seconds = before + time.monotonic() - began
        report.write(folder, both, size=size, seconds=seconds)  # each time: a run may be stopped
    failed = sum(bool(one.problems) for one in outcomes)
    print(f"{len(outcomes)} runs, {failed} with problems, {time.monotonic() - began:.0f} s; results: {folder}")
    return 1 if failed else 0


def _outcomes(chosen: Sequence[Row], options: argparse.Namespace) -> Iterator[Outcome]:
    for row in chosen:
        seeds = options.seeds or (1 if options.quick or options.short else row.seeds)
        for seed in range(1, 1 + seeds if row.run else 1):
            yield run_row(row, seed, options)
    tests = [row for row in chosen if row.tests]
    yield from run_tests(tests) if tests else ()


def _is_chosen(row: Row, options: argparse.Namespace) -> bool:
    if options.only:
        return row.family in options.only or bool(set(row.names) & set(options.only))
    return row.is_quick or not options.quick


def run_row(row: Row, seed: int, options: argparse.Namespace) -> Outcome:
    """Run one row with one seed."""
    outcome, began = Outcome(row, seed), time.monotonic()
    assert row.run is not None
    with tempfile.TemporaryDirectory(prefix="ranker-faults-") as folder:
        rig = Rig(Path(folder), outcome, options)
        try:
            row.run(rig)
        except Exception:
            outcome.problems.append(f"the row did not run to its end: {traceback.format_exc(limit=-3)}")
        finally:
            rig.close()
    outcome.seconds = time.monotonic() - began
    return outcome


def _say(outcome: Outcome) -> None:
    verdict = "FAILED" if outcome.problems else "passed"
    names = " ".join(outcome.row.names)
    print(f"{names}, seed {outcome.seed}: {outcome.row.title}: {verdict}, {outcome.seconds:.0f} s", flush=True)
    for one in outcome.figures:
        missed = "" if one.is_reached else " (missed)"
        plain = "" if one.plain is None else f"; plain {one.plain:.4g}"
        print(f"    {one.bar} {one.what}: {one.value:.4g} {one.unit}{missed}{plain}", flush=True)
    for text in (*outcome.notes, *outcome.problems):
        print(f"    {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
