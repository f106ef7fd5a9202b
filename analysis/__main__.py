"""From events to a decision.

python -m analysis COMMAND --help     the options of a command
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import Final

from contract.command_line import run

COMMANDS: Final[dict[str, str]] = {
    "prove": "replay A/A and planted experiments: do the statistics err as often as they say?",
    "compact": "merge the small files of past days",
    "guard": "stop running experiments that do harm",
    "sink": "copy the events of the Redis streams to Parquet tables",
    "plan": "users and days that a lift needs",
    "interleave": "which of two interleaved models users prefer",
    "report": "what an experiment changed: report.html, report.md and report.json",
}
"""Each command's help. `analysis/commands/<command>.py` has `add_arguments(parser)` and `run(options) -> int`."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    module = import_module(f"analysis.commands.{options.command}")  # only its own libraries: DuckDB takes a second
    return run("error", lambda: int(module.run(options)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, text in COMMANDS.items():
        import_module(f"analysis.commands.{name}").add_arguments(commands.add_parser(name, help=text))
    return parser


if __name__ == "__main__":
    sys.exit(main())
