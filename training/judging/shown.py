"""Judging with its progress and the time left, where it takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from contract.progress import Progress
from models.base import SequentialRecommender
from training.judging.evaluate import Judge
from training.judging.views import means


@contextmanager
def shown(title: str, judges: Sequence[tuple[Judge, int]], *, quiet: bool = False) -> Iterator[None]:
    """Show the progress of what these judges do in the block.

    Args:
        title: of the work.
        judges: with the number of scorers that each judges.
        quiet: show nothing.
    """
    with Progress(title, sum(judge.size * scorers for judge, scorers in judges), quiet=quiet) as progress:
        for judge, _ in judges:
            judge.watch = progress.advance
        yield


def validation(judge: Judge, model: SequentialRecommender, metric: str, *, quiet: bool = False) -> Callable[[], float]:
    """Return the validation of a model by one metric."""

    def validate() -> float:
        with shown("validation", [(judge, 1)], quiet=quiet):
            return means(judge(model))[metric]

    return validate
