"""`python -m analysis interleave EXPERIMENT`: which of two interleaved models users prefer."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from analysis.commands.options import duration, memory, positive
from analysis.rules import DAY, SIMULATED_FILE
from contract.command_line import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("experiment", help="key of the experiment")
    parser.add_argument("--data", type=Path, required=True, help="folder that the sink writes")
    parser.add_argument("--out", type=Path, help="folder for interleaving.json and interleaving.md (default: none)")
    parser.add_argument(
        "--credit", choices=("valid_play", "finish", "like"), default="valid_play", help="the one that decides"
    )
    parser.add_argument("--day", type=duration, default=DAY, help="length of a day: 1d, or 20s if simulated")
    parser.add_argument("--until", type=positive, help="ignore what arrived from this time on (ms since epoch)")
    parser.add_argument("--simulated", action="store_true", help=f"no real users (also by a file {SIMULATED_FILE})")
    parser.add_argument("--threads", type=positive, help="threads of DuckDB (default: one per core)")
    parser.add_argument("--memory", type=memory, default="1600MB", help="memory of DuckDB (default 1600MB)")


def run(options: argparse.Namespace) -> int:
    """Print the finding, and write it if a folder is given; returns 0 for any answer."""
    from analysis.commands.progress import Shown
    from analysis.interleave.credit import STAGES, count
    from analysis.interleave.document import document
    from analysis.interleave.estimate import finding
    from analysis.rules import Study
    from analysis.tables.database import Resources, database

    if not options.data.is_dir():
        raise CommandError(f"{options.data}: no such folder; --data is the folder that the sink writes")
    study = Study(options.experiment, end_ms=options.until, day_ms=options.day)
    shown = Shown(len(STAGES))
    with database(Resources(options.memory, options.threads), shown) as opened:
        counted = count(opened, options.data, study)
    shown.end()
    simulated = options.simulated or options.day != DAY or (options.data / SIMULATED_FILE).exists()
    found = finding(options.experiment, counted, options.credit, simulated=simulated)
    text = document(found)
    if options.out is not None:
        _write(options.out, json.dumps(found.as_json(), ensure_ascii=False, indent=2, allow_nan=False) + "\n", text)
    sys.stdout.write(text)
    return 0


def _write(folder: Path, facts: str, text: str) -> None:
    from contract.files import write_whole

    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "interleaving.json", facts.encode())
    write_whole(folder / "interleaving.md", text.encode())
