"""Which interactions are learnt from, which choose the model, and which judge it; by time order inside each user."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


class Rows(NamedTuple):
    """Queries: user k's interactions from `starts` up to, not including, `targets` are known; the one there comes next.

    Each (N,); places in the flat columns of the prepared data.
    """

    users: Places  # place in user_starts, from 0
    starts: Places
    targets: Places


class Split(NamedTuple):
    """Rows for training, validation and test. The history of a later row holds the targets of earlier ones."""

    train: Rows
    valid: Rows
    test: Rows


def leave_last_out(user_starts: Places, held: int = 1) -> Split:
    """Split each user's interactions: the last `held` are test, the `held` before them validation, the rest training.

    One row per prefix: every interaction but a user's first is the target of one row. held=1 is leave-one-out; held=5
    judges on five times the queries, with half the standard error, which suits ablations.
    """
    first, last = user_starts[:-1], user_starts[1:]
    begin = np.minimum(first + 1, last)  # a target needs a history
    test, valid = np.maximum(last - held, begin), np.maximum(last - 2 * held, begin)
    return Split(_rows(first, begin, valid), _rows(first, valid, test), _rows(first, test, last))


def training_mask(user_starts: Places, held: int = 1) -> NDArray[np.bool_]:
    """Return which interactions (R,) belong to training; a user's first one does, though no row has it as target."""
    first, last = user_starts[:-1], user_starts[1:]
    ends = np.maximum(last - 2 * held, np.minimum(first + 1, last))
    places = np.arange(user_starts[-1])
    return np.asarray(places < np.repeat(ends, last - first), dtype=np.bool_)


def _rows(first: Places, begin: Places, end: Places) -> Rows:
    counts = end - begin
    users = np.repeat(np.arange(len(first)), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    targets = np.arange(counts.sum()) - before + begin[users]
    return Rows(users, first[users], targets)
