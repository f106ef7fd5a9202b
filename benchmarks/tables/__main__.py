"""Tables of many systems: trains every missing run, then writes the table.

python -m benchmarks.tables benchmarks/tables/ml-100k.toml          train missing runs, then write the table
python -m benchmarks.tables benchmarks/tables/ml-100k.toml --show   write the table from the existing runs

With a plan's `search_seconds`, or `--search-seconds`, every system is searched with that budget first, and the table
has the best recipe of each search. After a kill or stop, the same command continues where it ended. Missing prepared
data are created first.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.tables import runner
from benchmarks.tables.page import refreshed
from benchmarks.tables.plan import PlanError, load_plan
from benchmarks.tables.records import Records
from benchmarks.tables.render import write_table
from benchmarks.tables.runner import Folders, Places
from benchmarks.tables.searched import Searched
from contract.command_line import run
from training.data.datasets.interactions import DataError
from training.data.prepare import load_prepared, prepare
from training.data.sources import read_source

RESULTS = Path(__file__).resolve().parent.parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run("error", lambda: _table(options), stopped="stopped; the same command continues")


def _table(options: argparse.Namespace) -> int:
    console = Console(highlight=False)
    plan = load_plan(options.plan)
    if options.search_seconds is not None:
        if options.search_seconds <= 0:
            raise PlanError("--search-seconds: above 0")
        plan = plan.model_copy(update={"search_seconds": options.search_seconds})
    results = options.results / options.plan.stem
    places = Places(Folders(options.data, options.runs / options.plan.stem), Records(results))
    failed: list[str] = []
    if not options.show:
        unknown = sorted(set(options.only) - {system.name for system in plan.systems})
        if unknown:
            raise PlanError(f"{options.plan}: no row {unknown[0]!r}")
        if options.workers < 1:
            raise PlanError("--workers: at least 1")
        _prepare(plan.dataset, options.data)
        searched, only = Searched(results), frozenset(options.only)
        if plan.search_seconds:
            from benchmarks.tables.searches import search_all  # needs Optuna

            failed = search_all(plan, places, searched, console, options.workers, only)
        failed += runner.run(searched.applied(plan), places, console, options.workers, only)
    console.print(f"written: {write_table(plan, places.records, results, console)}")
    if options.page:
        text = options.page.read_text(encoding="utf-8")
        options.page.write_text(refreshed(text, options.results), encoding="utf-8")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path, help="a table's plan: benchmarks/tables/<table>.toml")
    parser.add_argument("--show", action="store_true", help="train nothing")
    parser.add_argument("--page", type=Path, help="a page whose marked tables are updated: docs/results.md")
    parser.add_argument("--only", action="append", default=[], metavar="SYSTEM", help="train only the runs of this row")
    parser.add_argument("--workers", type=int, default=2, help="number of concurrent runs, one thread each (default 2)")
    parser.add_argument(
        "--search-seconds",
        type=float,
        metavar="S",
        help="search around every row first, with S CPU seconds for each (default: the plan's)",
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of prepared data sets (default data)")
    parser.add_argument("--runs", type=Path, default=Path("runs/tables"), help="folder of runs, with weights")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of records and tables")
    return parser


def _prepare(dataset: str, data: Path) -> None:
    try:
        load_prepared(data / dataset)
    except DataError:
        source = read_source(dataset, None, data)
        if source.notice:
            raise DataError(source.notice) from None
        prepare(source.interactions, data / source.name, source.core)


if __name__ == "__main__":
    sys.exit(main())
