"""The display of training: bars in a terminal, one plain line per epoch elsewhere, JSON for programs."""

from __future__ import annotations

import json
import time
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from training.fitting.fit import Epoch

_REPORT_SECONDS: Final = 0.5


class ConsoleWatcher:
    """Prints one line per epoch; in a terminal it shows a bar with loss, rate and time left below them."""

    def __init__(self, console: Console, title: str, metric: str) -> None:
        self._console, self._title, self._metric = console, title, metric.upper()
        self._bar: Progress | None = None
        self._started, self._rows = time.monotonic(), 0

    def __enter__(self) -> ConsoleWatcher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, epochs: int, rows: int, done: int) -> None:
        """See `training.fitting.fit.Watcher`."""
        self._started = time.monotonic()
        if self._console.is_terminal and epochs:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn(
                    "{task.percentage:>3.0f}%  loss {task.fields[loss]:.3f}  {task.fields[rate]:,.0f} rows/s  left"
                ),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.add_task(self._title, total=epochs * rows, completed=done * rows, loss=0.0, rate=0.0)
            self._bar.start()

    def step(self, rows: int, loss: float) -> None:
        """See `training.fitting.fit.Watcher`."""
        self._rows += rows
        if self._bar is not None:
            task = self._bar.tasks[0]
            shown = loss if not task.completed else 0.95 * float(task.fields["loss"]) + 0.05 * loss
            self._bar.update(task.id, advance=rows, loss=shown, rate=self.rate())

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """See `training.fitting.fit.Watcher`."""
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

    def __init__(self, console: Console, title: str, metric: str) -> None:
        super().__init__(console, title, metric)
        self._done, self._total, self._reported = 0, 0, 0.0

    def start(self, epochs: int, rows: int, done: int) -> None:
        """See `training.fitting.fit.Watcher`."""
        self._started = time.monotonic()
        self._done, self._total = done * rows, epochs * rows

    def step(self, rows: int, loss: float) -> None:
        """See `training.fitting.fit.Watcher`."""
        super().step(rows, loss)
        self._done += rows
        now = time.monotonic()
        if now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            report = {"title": self._title, "done": self._done, "total": self._total, "loss": loss, "rate": self.rate()}
            self._console.out(json.dumps(report))
