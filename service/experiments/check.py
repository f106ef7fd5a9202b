"""`python -m service --check-experiments [OLD] NEW`: the service's verdict on a file, before it is published.

For code review and CI. It needs no Redis and no bundles, so it cannot check that a model exists, and it knows only the
keys and salts of the given files; the running service also checks against all earlier ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from contract.experiments.file import parse_file, read_experiments, with_lines
from contract.experiments.history import ExperimentFile, experiment_file
from contract.experiments.parse import MAX_FILE_BYTES
from contract.experiments.problems import ExperimentsError
from contract.experiments.ramps import changes, propose

_MAX_CHANGES: Final = 40


class Report(NamedTuple):
    """The findings."""

    status: int  # for the shell: 0 if the file can be accepted, else 1
    lines: list[str]


def check_experiments(files: Sequence[Path], now_ms: int | None = None) -> Report:
    """Return the problems of the last file, or its changes.

    Args:
        files: the new file, or an old and a new one.
        now_ms: milliseconds since the epoch; None reads the clock.
    """
    now = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    path = files[-1]
    try:
        before = [_read(file, _in_format)[1] for file in files[:-1]]
        content, new = _read(path, read_experiments)
    except _Unfit as unfit:
        return _report(unfit.path, unfit.problems)
    state = None
    for old in before:
        state = propose(state, old, now).state
    problems = with_lines(content, propose(state, new, now).problems)
    if problems:
        return _report(path, [problem.text for problem in problems])
    lines = changes(before[-1].config, new.config) if before else []
    surplus = [f"and {len(lines) - _MAX_CHANGES} more"] if len(lines) > _MAX_CHANGES else []
    told = f"changes: {len(lines)}, " if before else ""
    return Report(0, [*lines[:_MAX_CHANGES], *surplus, f"{path}: can be accepted ({told}digest {new.digest})"])


class _Unfit(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        self.path, self.problems = path, problems


def _in_format(content: bytes) -> ExperimentFile:
    """Return an old file, which an earlier version of the service may have accepted: only its format is checked."""
    return experiment_file(parse_file(content))


def _read(path: Path, parse: Callable[[bytes], ExperimentFile]) -> tuple[bytes, ExperimentFile]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        return content, parse(content)
    except OSError as error:
        raise _Unfit(path, [f"cannot be read ({error.strerror})"]) from error
    except ExperimentsError as error:
        raise _Unfit(path, error.problems) from error


def _report(path: Path, problems: Sequence[str]) -> Report:
    return Report(1, [f"{path}: {problem}" for problem in problems])
