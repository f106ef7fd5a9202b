"""The display of training: one line per epoch and the time left for people, JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from typing import Final

from rich.console import Console

from contract.progress import Progress
from training.fitting.fit import Epoch

_REPORT_SECONDS: Final = 0.5
_NEWEST: Final = 0.05  # weight of the newest batch in the loss that is shown


class ConsoleWatcher:
    """Prints one line per epoch on the console, and progress with loss, rate and time left on stderr."""

    quiet = False

    def __init__(self, console: Console, title: str, metric: str) -> None:
        self._console, self._title, self._metric = console, title, metric.upper()
        self._shown = Progress(title, 0, quiet=True)
        self._started, self._rows, self._loss = time.monotonic(), 0, 0.0

    def __enter__(self) -> ConsoleWatcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.clear()

    def start(self, epochs: int, rows: int, done: int) -> None:
        """See `training.fitting.fit.Watcher`."""
        self._started = time.monotonic()
        self._done = done * rows
        self._shown = Progress(
            self._title, epochs * rows, done=self._done, quiet=self.quiet or not is_shown(self._console)
        )

    def step(self, rows: int, loss: float) -> None:
        """See `training.fitting.fit.Watcher`."""
        self._loss = loss if not self._rows else (1 - _NEWEST) * self._loss + _NEWEST * loss
        self._rows += rows
        self._done += rows
        self._shown.at(self._done, f"loss {self._loss:.3f}  {self.rate():,.0f} rows/s")

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """See `training.fitting.fit.Watcher`."""
        self._shown.clear()
        if epochs:
            valid = "" if epoch.valid_score is None else f"valid {self._metric} {epoch.valid_score:.4f}  "
            best = "  best" if epoch.best and epoch.valid_score is not None else ""
            self._console.print(
                f"{self._title}  epoch {epoch.epoch}/{epochs}  loss {epoch.loss:.4f}  "
                f"{valid}{epoch.rows_per_second:,.0f} rows/s{best}",
                soft_wrap=True,
            )
        self._started, self._rows = time.monotonic(), 0

    def rate(self) -> float:
        """See `training.fitting.fit.Watcher`."""
        return self._rows / max(time.monotonic() - self._started, 1e-9)


class ReportingWatcher(ConsoleWatcher):
    """Prints one JSON object per line twice a second, for a program that shows several trainings at once.

    Its keys: `title`, `done` and `total` (rows of all epochs), `loss` (of the newest batch), `rate` (rows per second).
    """

    quiet = True

    def __init__(self, console: Console, title: str, metric: str) -> None:
        super().__init__(console, title, metric)
        self._total, self._reported = 0, 0.0

    def start(self, epochs: int, rows: int, done: int) -> None:
        """See `training.fitting.fit.Watcher`."""
        super().start(epochs, rows, done)
        self._total = epochs * rows

    def step(self, rows: int, loss: float) -> None:
        """See `training.fitting.fit.Watcher`."""
        super().step(rows, loss)
        now = time.monotonic()
        if now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            report = {"title": self._title, "done": self._done, "total": self._total, "loss": loss, "rate": self.rate()}
            self._console.out(json.dumps(report))


def is_shown(console: Console) -> bool:
    """Whether progress belongs on stderr: a console that writes elsewhere than to standard output has no reader now."""
    return not console.quiet and console.file is sys.stdout


def watcher_of(console: Console, title: str, metric: str, *, reporting: bool) -> ConsoleWatcher:
    """Return what shows a training: to people, or as JSON lines to a program."""
    return (ReportingWatcher if reporting else ConsoleWatcher)(console, title, metric)
