"""`python -m exporter.check RECIPE`: a recipe's model against the checks that every model of the catalogue passes.

The model is built with the recipe's config, for a small made-up catalogue of 30 items; no data are needed.
The last check exports it and compares torch with ONNX Runtime.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from contract.bundle.tensors import SequenceSpec
from contract.command_line import CommandError, explained, one_line, run
from exporter.errors import ExportError
from exporter.graphs.trace import Traced, trace
from exporter.parity.verify import Parity, verify
from exporter.rows import RowMaker
from models.checks.catalogue import ITEMS, USERS
from models.checks.every import Result, run_check, run_checks
from models.checks.subject import Subject


class ChecksFailedError(CommandError):
    """The model does not pass every check."""


def exported(subject: Subject) -> tuple[Traced, list[Parity]]:
    """Export a model of the small catalogue and compare both engines.

    Raises:
        ExportError: it cannot be exported, or the graphs differ from the model.
    """
    model = subject.build()
    spec = SequenceSpec(length=model.length, columns=model.columns, row_inputs=model.row_inputs)
    maker = RowMaker(spec, ITEMS, USERS)
    traced = trace(model, maker.make([0, min(2, model.length), model.length], [3, 2, 2]))
    return traced, verify(model, traced, maker, model.length)


def the_exported_graphs_have_the_scores_of_torch(subject: Subject) -> None:
    """Other rows of a batch, the content of padding and shapes that were not traced change no score either."""
    exported(subject)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a recipe's model; return 0 if it passes every check, else 1."""
    options = _parser().parse_args(arguments)
    return run("exporter.check", lambda: _check(options))


def _check(options: argparse.Namespace) -> int:
    subject = read_subject(options.recipe, options.feature)
    counts = {"passed": 0, "failed": 0, "not applicable": 0}
    for result in _results(subject):
        counts[result.outcome] += 1
        print(f"{result.outcome:<15} {result.sentence}{f': {result.reason}' if result.reason else ''}", flush=True)
    print(f"{subject.model}: {', '.join(f'{count} {outcome}' for outcome, count in counts.items())}")
    if counts["failed"]:
        raise ChecksFailedError(f"{subject.model} fails {counts['failed']} checks")
    return 0


def _results(subject: Subject) -> Iterator[Result]:
    yield from run_checks(subject)
    yield run_check(the_exported_graphs_have_the_scores_of_torch, subject)


def read_subject(path: Path, features: Sequence[str] = ()) -> Subject:
    """Read the model and config of a recipe.

    Args:
        path: the recipe.
        features: item features that the config names under another key than `side`.

    Raises:
        ExportError: the recipe is missing, or its model cannot be found or built.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        model, config = str(document["model"]), dict(document.get("config", {}))
    except OSError as error:
        raise ExportError(explained(error)) from None
    except KeyError:
        raise ExportError(f"{path}: model: not set") from None
    except (ValueError, TypeError) as error:
        raise ExportError(f"{path}: {error}") from None
    subject = Subject(model, config, (*_side(config), *features))
    try:
        _ = subject.ready
    except Exception as error:  # the code of someone else, which may raise any error
        cause = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ExportError(f"{path}: {cause}{one_line(str(error))[:300]}") from error
    return subject


def _side(config: dict[str, Any]) -> list[str]:
    side = config.get("side", ())
    return [str(name) for name in side] if isinstance(side, list) else []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m exporter.check",
        description="Check a recipe's model as every model of the catalogue is checked.",
    )
    parser.add_argument("recipe", type=Path, help="a recipe; its model and [config] are read")
    parser.add_argument(
        "--feature", action="append", default=[], metavar="NAME",
        help="an item feature that the config names under another key than `side`",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
