"""Bad lines of all files of a source: the first one is an error, or all are counted and passed on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from contract.behaviours.csv_rows import Problem
from training.data.datasets.interactions import DataError


class Skips:
    """Call it with each bad line.

    Args:
        path: of the source.
        on_skip: called with each bad line; None makes the first one an error.

    Attributes:
        counts: of bad lines, by kind of problem.
    """

    def __init__(self, path: Path, on_skip: Callable[[Problem], None] | None) -> None:
        self._path, self._on_skip = path, on_skip
        self.counts: Counter[str] = Counter()

    def __call__(self, problem: Problem) -> None:
        """Count a bad line.

        Raises:
            DataError: bad lines are not skipped.
        """
        if self._on_skip is None:
            raise DataError(f"{problem.told(self._path)} (--skip-bad-lines skips, counts and lists such lines)")
        self.counts[problem.kind] += 1
        self._on_skip(problem)
