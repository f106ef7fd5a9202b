"""The commands of the other packages, as processes; their output goes to the day's log."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from contract.command_line import CommandError, one_line
from deploy.processes import ROOT

_TICK_SECONDS: Final = 1.0


class StepFailedError(CommandError):
    """A command ended with an error; the message has its last line."""


class Commands(Protocol):
    """Runs `python -m PACKAGE ...`."""

    def __call__(self, *arguments: object, given: str = "") -> str:
        """Return what it printed; `given` is its standard input."""


class Processes:
    """Runs each command in a process of its own, in the root of the checkout.

    Args:
        log: a file that gets all output.
        tick: is called about once a second while a command runs.
    """

    def __init__(self, log: Path, tick: Callable[[], None] = lambda: None) -> None:
        self._log, self._tick = log, tick

    def __call__(self, *arguments: object, given: str = "") -> str:
        """See `Commands`.

        Raises:
            StepFailedError: it ended with an error.
        """
        words = [str(argument) for argument in arguments]
        command = [sys.executable, "-m", *words]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                printed = self._printed(process, given)
            except BaseException:
                process.kill()
                raise
        with self._log.open("a", encoding="utf-8") as file:
            file.write(f"$ python -m {' '.join(words)}\n{printed}")
        if process.returncode:
            raise StepFailedError(f"{words[0]} {words[1] if len(words) > 1 else ''}: {_last(printed)}")
        return printed

    def _printed(self, process: subprocess.Popen[str], given: str) -> str:
        left: str | None = given  # the first call keeps what it has not sent yet
        while True:
            try:
                return process.communicate(left, timeout=_TICK_SECONDS)[0]
            except subprocess.TimeoutExpired:
                left = None
                self._tick()


def _last(printed: str) -> str:
    lines: Sequence[str] = [line for line in printed.splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else "it printed nothing"
