"""The step of the day and the time left, on a terminal only: a scheduler mails or keeps what a job writes to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from contract.progress import Progress


class Shown:
    """A context manager that shows the steps of a day, each expected to take as long as before.

    Args:
        steps: names, in order.
        expected: seconds by step; without them the steps count alike.
        quiet: show nothing.
        clock: seconds.
    """

    def __init__(
        self,
        steps: Sequence[str],
        expected: Mapping[str, float],
        *,
        quiet: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steps, self._clock = list(steps), clock
        self._weights = [expected.get(name, 1.0) for name in steps] if expected else [1.0 for _ in steps]
        self._shown = Progress("daily", sum(self._weights), quiet=quiet, clock=clock)
        self._knows, self._place, self._began = bool(expected), 0, clock()

    def step(self, name: str) -> None:
        """Tell that a step begins."""
        self._place, self._began = self._steps.index(name), self._clock()
        self.tick()

    def tick(self) -> None:
        """Show the line again."""
        within = min(self._clock() - self._began, self._weights[self._place]) if self._knows else 0.0
        title = f"daily  {self._place + 1}/{len(self._steps)} {self._steps[self._place]}"
        self._shown.at(sum(self._weights[: self._place]) + within, title=title)

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.clear()


def is_watched() -> bool:
    """Whether a person watches standard error."""
    return sys.stderr is not None and sys.stderr.isatty()


def expected_seconds(log: Path, steps: Sequence[str]) -> dict[str, float]:
    """Return the seconds of each step on the newest day of a log that took all of them; empty without one."""
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        seconds = _seconds(line)
        if set(steps) <= set(seconds):
            return seconds
    return {}


def _seconds(line: str) -> dict[str, float]:
    try:
        return {str(name): float(value) for name, value in json.loads(line)["seconds"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
