"""The experiments file, as the guard and reports read it: by the rules of the service, so that none accepts another."""

from __future__ import annotations

from pathlib import Path

from contract.command_line import CommandError, one_line
from contract.experiments.definition import ExperimentsConfig
from contract.experiments.file import parse_file, with_lines
from contract.experiments.parse import parse_experiments
from contract.experiments.problems import ExperimentsError


def parsed(path: Path, content: bytes) -> ExperimentsConfig:
    """Return the experiments of a file.

    Raises:
        CommandError: it breaks a rule. The message has no text of the file: it is logged, and the file may name users.
    """
    try:
        return parse_experiments(parse_file(content))[0]
    except ExperimentsError as error:
        problems = (problem.text for problem in with_lines(content, error.found))
        raise CommandError(f"{path}: not an experiments file: {one_line('; '.join(problems))}") from None
