"""Reporters of a fit, and the one place that calls them.

A reporter is told when a training begins, after each epoch, and how it ended. One that fails is left out from then on,
with one line: a full disk of TensorBoard or a tracking server that is gone must not end a training.
The run's own log is the exception (`required`): without it the run is damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from rich.console import Console

from contract.command_line import one_line, without_login
from training.fitting.fit import Epoch
from training.recipe import Recipe
from training.runs import RunDirectory

Ending = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class Training:
    """The training that is reported.

    Attributes:
        folder: of the run; its name is the run's.
        recipe: the run's.
        metric: the one that selects the epoch, such as `unseen.ndcg@10`; "" if nothing is validated.
    """

    folder: Path
    recipe: Recipe
    metric: str


class Reporter(Protocol):
    """Is told about one training.

    Attributes:
        name: for the line about its failure.
        required: whether its failure ends the training.
    """

    name: ClassVar[str]
    required: ClassVar[bool]

    def begin(self, training: Training) -> None:
        """Training begins, or goes on after it was stopped."""

    def epoch(self, epochs: Sequence[Epoch]) -> None:
        """An epoch has ended; all epochs so far, those of an earlier process included."""

    def end(self, ending: Ending, metrics: Mapping[str, float]) -> None:
        """The training has ended, with the metrics on test if it has been judged."""


class RunLog:
    """log.jsonl of the run."""

    name: ClassVar[str] = "log"
    required: ClassVar[bool] = True

    def begin(self, training: Training) -> None:
        """See `Reporter`."""
        self._run = RunDirectory(training.folder)

    def epoch(self, epochs: Sequence[Epoch]) -> None:
        """See `Reporter`."""
        self._run.write_log(list(epochs))

    def end(self, ending: Ending, metrics: Mapping[str, float]) -> None:
        """See `Reporter`."""


class Reporting:
    """Tells several reporters about one training.

    Args:
        reporters: in the order in which they are told; the log comes before them.
        say: prints a line.
    """

    def __init__(self, reporters: Sequence[Reporter], say: Callable[[str], None]) -> None:
        self._reporters, self._say = [RunLog(), *reporters], say
        self._ending: Ending = "failed"
        self._metrics: Mapping[str, float] = {}

    @contextmanager
    def of(self, training: Training) -> Iterator[Reporting]:
        """Tell of the beginning and the end of the block; it failed unless `finished` or `stopped` was called."""
        self._tell(lambda reporter: reporter.begin(training))
        try:
            yield self
        finally:
            self._tell(lambda reporter: reporter.end(self._ending, self._metrics))

    def epoch(self, epochs: Sequence[Epoch]) -> None:
        """Tell of an epoch."""
        self._tell(lambda reporter: reporter.epoch(epochs))

    def finished(self, metrics: Mapping[str, float]) -> None:
        """Note that all went well."""
        self._ending, self._metrics = "finished", metrics

    def stopped(self) -> None:
        """Note that a person stopped the training."""
        self._ending = "stopped"

    def _tell(self, call: Callable[[Reporter], None]) -> None:
        for reporter in tuple(self._reporters):
            try:
                call(reporter)
            except Exception as error:  # of any library: the training goes on
                if reporter.required:
                    raise
                self._reporters.remove(reporter)
                reason = without_login(one_line(f"{type(error).__name__}: {error}"))[:300]
                self._say(f"{reporter.name}: {reason}; the training goes on without it")


def telling(training: Training, reporters: Sequence[Reporter], console: Console) -> AbstractContextManager[Reporting]:
    """Return a block whose training the reporters are told about; failures go to the console."""
    return Reporting(reporters, partial(console.print, soft_wrap=True, markup=False)).of(training)
