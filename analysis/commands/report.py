"""`python -m analysis report EXPERIMENT`: from a folder of Parquet to report.json, report.md and report.html."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.commands.options import duration, memory, positive
from analysis.rules import SIMULATED_FILE
from contract.command_line import CommandError

if TYPE_CHECKING:
    from analysis.report.build import Reading
    from analysis.report.document import Report
    from analysis.rules import Study
    from analysis.tables.database import Resources
    from analysis.verdict.setup import Setup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("experiment", help="key of the experiment")
    parser.add_argument("--data", type=Path, required=True, help="folder that the sink writes")
    parser.add_argument("--out", type=Path, required=True, help="folder for report.json, report.md and report.html")
    plan = parser.add_mutually_exclusive_group()
    plan.add_argument("--experiments", type=Path, help="experiments file: shares, primary metrics, guardrails, end")
    plan.add_argument("--shares", help="shares of the arms without a file, as control=5000,treatment=5000")
    parser.add_argument("--window", type=int, default=14, choices=(7, 14, 21, 28), help="days per unit (default 14)")
    parser.add_argument("--day", type=duration, default=duration("1d"), help="length of a day: 1d, or 20s if simulated")
    parser.add_argument("--planned", type=positive, help="units of all arms at the planned end")
    parser.add_argument("--salt", help="which one, if the experiment was run with several")
    parser.add_argument("--until", type=positive, help="ignore what arrived from this time on (ms since epoch)")
    parser.add_argument("--simulated", action="store_true", help=f"no real users (also by a file {SIMULATED_FILE})")
    parser.add_argument("--threads", type=positive, help="threads of DuckDB (default: one per core)")
    parser.add_argument("--memory", type=memory, default="1600MB", help="memory of DuckDB (default 1600MB)")


def run(options: argparse.Namespace) -> int:
    """Write the report; returns 0 even if the verdict is bad: it is an answer."""
    report = report_of(options)
    _write(options.out, report)
    sys.stdout.write(f"{report.verdict.sentence}\n{options.out / 'report.html'}\n")
    return 0


def report_of(options: argparse.Namespace) -> Report:
    """Return the report, before it is written."""
    from analysis.report.build import Reading
    from analysis.rules import DAY, Study
    from analysis.tables.database import Resources

    study = Study(options.experiment, options.window, options.until, options.day, options.salt)
    simulated = options.simulated or options.day != DAY or (options.data / SIMULATED_FILE).exists()
    reading = Reading(options.planned, simulated, options.window)
    return _report(options.data, study, _setup(options), Resources(options.memory, options.threads), reading)


def _setup(options: argparse.Namespace) -> Setup:
    from analysis.verdict.setup import from_file, from_shares, unplanned

    if options.experiments is not None:
        return from_file(options.experiments, options.experiment)
    if options.shares is not None:
        return from_shares(options.experiment, options.shares)
    return unplanned(options.experiment)


def _report(data: Path, study: Study, setup: Setup, resources: Resources, reading: Reading) -> Report:
    from analysis.commands.progress import Shown
    from analysis.report.build import build
    from analysis.tables.database import database
    from analysis.units.counts import exposure_counts, notes
    from analysis.units.daily import daily_table
    from analysis.units.table import STAGES, Tables, prepare, unit_table
    from analysis.verdict.health import read_health

    if not data.is_dir():
        raise CommandError(f"{data}: no such folder; --data is the folder that the sink writes")
    shown = Shown(len(STAGES))
    with database(resources, shown) as opened:
        prepare(opened, data, study)
        counted = exposure_counts(opened, data, study)
        tables = Tables(unit_table(opened), daily_table(opened, study), counted, notes(opened, study))
        health = read_health(opened, study, setup)
    shown.end()
    return build(tables, health, setup, reading)


def _write(folder: Path, report: Report) -> None:
    from analysis.report import html, markdown
    from contract.files import write_whole

    contents = {
        "report.json": json.dumps(report.as_json(), ensure_ascii=False, indent=2, allow_nan=False) + "\n",
        "report.md": markdown.document(report),
        "report.html": html.page(report),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_whole(folder / name, content.encode())
