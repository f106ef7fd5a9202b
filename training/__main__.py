"""From raw interactions to a run directory.

python -m training prepare ml-100k            filter, order, index: data/ml-100k/
python -m training train RECIPE.toml          a run directory: runs/<data set>/<model>/<run>/
python -m training evaluate RUN               full ranking, again
python -m training compare RUN RUN ...        one table, with seeds and intervals
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from contract.command_line import STOPPED, run

if TYPE_CHECKING:  # torch takes a second to import; --help must not wait for it
    from training.recipe import Recipe
    from training.runs import RunDirectory


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run("error", lambda: int(options.run(options)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_prepare(commands.add_parser("prepare", help="filter, order and index a data set"))
    _add_train(commands.add_parser("train", help="train one recipe"))
    _add_evaluate(commands.add_parser("evaluate", help="evaluate a run again"))
    _add_compare(commands.add_parser("compare", help="many runs in one table"))
    return parser


def _add_prepare(command: argparse.ArgumentParser) -> None:
    command.add_argument("dataset", help="ml-100k, another known name, generated, or the path of a .csv file")
    command.add_argument("--data", type=Path, help="folder that contains the raw data set (default: $RANKER_DATA, ...)")
    command.add_argument("--out", type=Path, default=Path("data"), help="folder of prepared data sets (default data)")
    command.add_argument("--core", type=int, help="minimum interactions per user and item (default: the data set's)")
    command.add_argument(
        "--skip-bad-lines", action="store_true", help="of a .csv file: skip, count and list them (default: an error)"
    )
    command.add_argument("--report", action="store_true", help="the prepared folder as a JSON line, for a program")
    command.set_defaults(run=_prepare)


def _add_train(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", type=Path, nargs="?", help="a recipe: training/recipes/<data set>/<model>.toml")
    command.add_argument("--out", type=Path, default=Path("runs"), help="folder of runs (default runs)")
    command.add_argument("--seed", type=int, help="instead of the recipe's own")
    command.add_argument("--dataset", metavar="NAME", help="a prepared data set, instead of the recipe's own")
    command.add_argument("--resume", type=Path, metavar="RUN", help="continue a run that was stopped")
    command.add_argument("--report", action="store_true", help="progress as JSON lines, for a program")
    _add_machine(command)
    command.set_defaults(run=_train)


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("directory", type=Path, metavar="RUN", help="a run directory")
    _add_machine(command)
    command.set_defaults(run=_evaluate)


def _add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("directories", type=Path, nargs="+", metavar="RUN", help="run directories; seeds are grouped")
    command.add_argument("--part", choices=("test", "valid"), default="test", help="which queries (default test)")
    command.add_argument("--view", default="", help="pop100, uni100, pool; default: the main one")
    command.set_defaults(run=_compare)


def _add_machine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, default=Path("data"), help="folder of prepared data sets (default data)")
    command.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    command.add_argument("--threads", type=int, default=0, help="torch threads; 0 = torch chooses (default)")


def _prepare(options: argparse.Namespace) -> int:
    from contract.behaviour_file import SkippedLines
    from training.plausibility import told
    from training.prepare import prepare
    from training.sources import counts_table, read_source

    skipped = SkippedLines(Path(options.dataset))
    source = read_source(options.dataset, options.data, options.out, skipped if options.skip_bad_lines else None)
    for line in skipped.told():
        print(line, file=sys.stderr)
    if source.notice:
        print(f"NOTICE: {source.notice}")
    core = source.core if options.core is None else options.core
    provenance, reused = prepare(source.interactions, options.out / source.name, core=core)
    counts = provenance["counts"]
    print(
        f"{provenance['dataset']}: {counts['users']:,} users, {counts['items']:,} items, {counts['interactions']:,} "
        f"interactions after the {core}-core, of {counts['interactions_before']:,}"
    )
    Console(highlight=False).print(counts_table(provenance, source.published))
    for line in told(provenance["plausibility"], counts):
        print(line)
    print(f"{'unchanged' if reused else 'written'}: {options.out / source.name}")
    if options.report:
        print(json.dumps({"prepared": source.name}))
    return 0


def _train(options: argparse.Namespace) -> int:
    from models.base import NegativesError
    from training.recipe import RecipeError
    from training.runs import RunDirectory
    from training.train import Machine, StoppedError, train

    if options.resume is not None:
        directory, recipe = _stopped(options.resume)
        cleaning: AbstractContextManager[None] = nullcontext()  # folders that existed before the command stay
    else:
        recipe = _recipe(options)
        directory = RunDirectory.create(options.out, recipe)
        cleaning = directory.discarded_unless_learnt()
    machine = Machine(options.device, options.threads)
    try:
        with cleaning:
            metrics = train(
                directory, recipe, options.data, machine, Console(highlight=False), reporting=options.report
            )
    except StoppedError:
        print(f"\nstopped; continue with: python -m training train --resume {directory.path}")
        return STOPPED
    except (NegativesError, RecipeError) as error:
        raise RecipeError(f"{options.recipe or directory.path}: {error}") from error
    print(f"test: {_shown(metrics)}")
    print(f"run: {directory.path}")
    return 0


def _stopped(path: Path) -> tuple[RunDirectory, Recipe]:
    from training.runs import RunDirectory, RunError

    directory = RunDirectory(path)
    if directory.is_complete:
        raise RunError(f"{path} is complete; there is nothing to resume")
    return directory, directory.recipe()


def _recipe(options: argparse.Namespace) -> Recipe:
    from training.recipe import RecipeError, load_recipe

    if options.recipe is None:
        raise RecipeError("name a recipe, or a run with --resume")
    return load_recipe(options.recipe, seed=options.seed, dataset=options.dataset)


def _evaluate(options: argparse.Namespace) -> int:
    from training.runs import RunDirectory
    from training.train import Machine, evaluate_run

    metrics = evaluate_run(RunDirectory(options.directory), options.data, Machine(options.device, options.threads))
    print(f"test: {_shown(metrics)}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from training.compare import compare

    compare([Path(path) for path in options.directories], options.part, Console(highlight=False), options.view)
    return 0


def _shown(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name.upper()} {value:.4f}" for name, value in metrics.items())


if __name__ == "__main__":
    sys.exit(main())
