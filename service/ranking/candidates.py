"""From candidates and scores to the answered list; the same request on the same state gives the same list, always."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.bundle.vocabulary import Vocabulary
from service.inference.orders import places_of
from service.ranking.listed import MOST_LISTED, Listed

_PARTITION_FROM = 4  # a selection pays when it leaves out at least three quarters


class Candidates(NamedTuple):
    """A request's candidates, each once, in the order of the request."""

    item_ids: Sequence[str]
    known: NDArray[np.int64]  # (N,) places of those that the model knows
    unknown: Sequence[int]  # places of the others
    indices: NDArray[np.int64]  # (N,) their indices in the model's vocabulary

    @property
    def total(self) -> int:
        """Return how many there are, known or not."""
        return len(self.item_ids)


def without_scores(candidates: Candidates, finite: NDArray[np.bool_]) -> Candidates:
    """Move the candidates without a finite score to the unknown ones; both keep the order of the request."""
    left_out: list[int] = candidates.known[~finite].tolist()
    return candidates._replace(
        known=candidates.known[finite],
        unknown=sorted([*candidates.unknown, *left_out]),
        indices=candidates.indices[finite],
    )


def candidates_of(item_ids: Sequence[str], vocabulary: Vocabulary) -> Candidates:
    """Look the candidates up; a repeated one counts once, at its first place."""
    indices = vocabulary.distinct_indices(item_ids)
    if indices is not None:
        named = Listed(vocabulary, indices) if len(vocabulary) <= MOST_LISTED else item_ids
        return Candidates(named, places_of(len(indices)), (), indices)
    distinct = list(dict.fromkeys(item_ids))
    indices = vocabulary.indices(distinct)
    known = np.flatnonzero(indices)
    return Candidates(distinct, known, np.flatnonzero(indices == 0).tolist(), indices[known])


def best(scores: NDArray[np.float32], limit: int) -> NDArray[np.int64]:
    """Return places of the `limit` best scores, best first; of equal scores, the earlier place is first."""
    worst_first = -scores
    if limit * _PARTITION_FROM >= len(scores):
        return _order(worst_first)[:limit]
    # All that reach the limit-th score, ties included and in their order, so that a stable sort decides them as above.
    chosen = np.flatnonzero(worst_first <= np.partition(worst_first, limit - 1)[limit - 1])
    return np.asarray(chosen[np.argsort(worst_first[chosen], kind="stable")[:limit]], dtype=np.int64)


def _order(numbers: NDArray[np.float32]) -> NDArray[np.int64]:
    """Sort stably: the quick sort takes a third of the time, and only equal numbers make a difference."""
    order = numbers.argsort()
    ordered = numbers[order]
    if np.count_nonzero(ordered[1:] == ordered[:-1]):
        return numbers.argsort(kind="stable")
    return order
