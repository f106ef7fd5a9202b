"""Progress on stderr: one line that changes in a terminal, one line per stage elsewhere."""

from __future__ import annotations

import sys
from typing import Final

_WIDTH: Final = 60


class Shown:
    """Takes the progress of `analysis.units.compute`."""

    def __init__(self, stages: int) -> None:
        self._names: list[str] = []
        self._stages = stages
        self._in_place = sys.stderr is not None and sys.stderr.isatty()

    def __call__(self, stage: str, share: float) -> None:
        """Show how much of a stage is done, 0 to 1."""
        is_new = stage not in self._names
        if is_new:
            self._names.append(stage)
        line = f"{len(self._names)}/{self._stages} {stage}"
        if self._in_place:
            sys.stderr.write(f"\r{f'{line} {share:.0%}':<{_WIDTH}}")
            sys.stderr.flush()
        elif is_new and sys.stderr is not None:
            sys.stderr.write(f"{line}\n")

    def end(self) -> None:
        """Clear the line."""
        if self._in_place:
            sys.stderr.write(f"\r{'':<{_WIDTH}}\r")
