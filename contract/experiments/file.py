"""From the bytes of an experiment file, YAML or JSON, to experiments; a problem is reported with its line."""

from __future__ import annotations

from collections.abc import Iterable

from contract.experiments.history import ExperimentFile, experiment_file
from contract.experiments.parse import MAX_FILE_BYTES
from contract.experiments.problems import ExperimentsError, Problem
from contract.experiments.served import unserved
from contract.operator_file import Lines, OperatorFileError, parse


def parse_file(content: bytes) -> object:
    """Return the plain data of a file.

    Raises:
        ExperimentsError: too large, not text, malformed, nested too deeply, or with a key given twice.
    """
    try:
        return parse(content, MAX_FILE_BYTES)
    except OperatorFileError as error:
        raise ExperimentsError([str(error)]) from error


def read_experiments(content: bytes) -> ExperimentFile:
    """Return a file that has the right format and that the service fully supports.

    Raises:
        ExperimentsError: it does not; each problem names its line and field.
    """
    document = parse_file(content)
    try:
        file = experiment_file(document)
    except ExperimentsError as error:
        raise ExperimentsError(with_lines(content, error.found)) from error
    problems = unserved(file.config)
    if problems:
        raise ExperimentsError(with_lines(content, problems))
    return file


def with_lines(content: bytes, problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems with the line of each in front, if the file has the place."""
    lines = Lines(content)
    return [
        Problem(f"line {line}: {problem.text}", problem.place)
        if problem.place and (line := lines.of(problem.place)) is not None
        else problem
        for problem in problems
    ]
