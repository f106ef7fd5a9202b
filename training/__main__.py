"""From raw interactions to a run directory.

python -m training prepare ml-100k            filter, order, index: data/ml-100k/
python -m training train RECIPE.toml          a run directory: runs/<data set>/<model>/<run>/
python -m training train --from RUN           goes on from yesterday's weights (docs/daily.md)
python -m training fit-all RUN                every row, with the epochs that the run chose; this fit is served
python -m training search RECIPE.toml --trials 20   many trials on validation, and the best recipe (docs/search.md)
python -m training evaluate RUN               full ranking, again
python -m training compare RUN RUN ...        one table, with seeds and intervals
"""

from __future__ import annotations

import argparse
import sys

from contract.command_line import run
from training.commands import compare, evaluate, fit_all, prepare, search, train

COMMANDS = {
    "prepare": (prepare, "filter, order and index a data set"),
    "train": (train, "train one recipe"),
    "fit-all": (fit_all, "train on every row, with the epochs that validation chose"),
    "search": (search, "many trials around a recipe, and the best recipe"),
    "evaluate": (evaluate, "evaluate a run again"),
    "compare": (compare, "many runs in one table"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run("error", lambda: int(options.run(options)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (command, help_line) in COMMANDS.items():
        added = commands.add_parser(name, help=help_line)
        command.add_arguments(added)
        added.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
