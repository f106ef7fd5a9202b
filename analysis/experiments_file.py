"""The experiments file, as the guard and reports read it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import yaml

from contract.command_line import CommandError, one_line
from contract.experiments.definition import ExperimentsConfig
from contract.experiments.parse import parse_experiments
from contract.experiments.problems import ExperimentsError

_NAMED: Final = re.compile(r"(alias|anchor|tag)\b.*", re.DOTALL)  # what follows is text of the file


def parsed(path: Path, text: str) -> ExperimentsConfig:
    """Return the experiments of a file's text.

    Raises:
        CommandError: it breaks a rule. The message has no text of the file: it is logged, and the file may name users.
    """
    try:
        return parse_experiments(yaml.safe_load(text))[0]
    except ExperimentsError as error:
        raise CommandError(f"{path}: {one_line(str(error))}") from None
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise CommandError(f"{path}: not a readable experiments file: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return type(error).__name__
    problem = _NAMED.sub(r"\1", error.problem or "")
    return one_line(f"line {error.problem_mark.line + 1}: {problem}")
