"""Progress on stderr: one line that changes in a terminal; elsewhere a line now and then, so that logs stay short."""

from __future__ import annotations

import sys
import time
from typing import Final

_WIDTH: Final = 60
_SECONDS: Final = 5.0  # between two lines that are not in a terminal


class Shown:
    """Takes the progress of `analysis.units.table.compute`."""

    def __init__(self, stages: int) -> None:
        self._names: list[str] = []
        self._stages = stages
        self._in_place = sys.stderr is not None and sys.stderr.isatty()
        self._next = time.monotonic() + _SECONDS

    def __call__(self, stage: str, share: float) -> None:
        """Show how much of a stage is done, 0 to 1."""
        if stage not in self._names:
            self._names.append(stage)
        line = f"{len(self._names)}/{self._stages} {stage} {share:.0%}"
        if self._in_place:
            sys.stderr.write(f"\r{line:<{_WIDTH}}")
            sys.stderr.flush()
        elif sys.stderr is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS
            sys.stderr.write(f"{line}\n")

    def end(self) -> None:
        """Clear the line."""
        if self._in_place:
            sys.stderr.write(f"\r{'':<{_WIDTH}}\r")
