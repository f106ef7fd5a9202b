"""The shift of new items' scores: the model is to expect as many clicks on new items as validation has.

A model that learns to do without ids gives an item without an id the bias of an average item, and an average item of a
log is old. The scores of one query are logits of a softmax over its candidates. The shift b is added to the scores of
all new items, and solves: sum over queries of (share of the softmax that new items have) = clicks on new items.
The likelihood of the clicks is largest there, too: it is concave in b, and this is its derivative.

Symbols: B queries, I items.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.prepare import Prepared
from training.judging.candidates import Mask
from training.judging.metrics import Floats
from training.judging.sampled import sampled
from training.judging.scores import Scorer
from training.recipe import SplitRecipe
from training.rows.split import Rows

_SEED: Final = 20_251_127
_LARGEST: Final = 20.0
_HALVINGS: Final = 40


class NewItemShift(NamedTuple):
    """See the module's docstring.

    Attributes:
        added: to the scores of new items.
        clicks: on new items.
        queries: of validation that have new and known candidates.
    """

    added: float
    clicks: int
    queries: int


def learn_shift(
    scorer: Scorer, prepared: Prepared, recipe: SplitRecipe, rows: Rows, popularity: NDArray[np.float32]
) -> NewItemShift:
    """Return the shift from queries; each is ranked among the items alive that its user has not seen.

    Args:
        scorer: of the model.
        prepared: data with times.
        recipe: the margin of lifetimes.
        rows: validation queries; a fixed sample of them is used.
        popularity: (I+1,) training interactions by item index; an item without one is new.
    """
    is_new = popularity == 0
    gaps, on_new = [np.zeros(0)], [np.zeros(0, dtype=np.bool_)]
    for piece, candidates in sampled(scorer, prepared, recipe, rows, _SEED):
        scores = scorer.all(piece).astype(np.float64)
        new, known = (_log_sum(scores, candidates & part) for part in (is_new, ~is_new))
        both = np.isfinite(new) & np.isfinite(known)
        gaps.append((new - known)[both])
        on_new.append(is_new[piece.items][both])
    return shift_of(np.concatenate(gaps), np.concatenate(on_new))


def shift_of(gaps: Floats, on_new: NDArray[np.bool_]) -> NewItemShift:
    """Return the shift of queries.

    One query that agrees with the model is added, so that few clicks move little, and none leave a finite shift.

    Args:
        gaps: (B,) log of the sum of exp(score) of new candidates, less that of known ones.
        on_new: (B,) whether the click is on a new item.
    """
    clicks, queries = int(on_new.sum()), len(gaps)
    if not queries:
        return NewItemShift(0.0, 0, 0)
    agreeing = float(gaps.mean())
    wanted = clicks + float(_share(agreeing))
    low, high = -_LARGEST, _LARGEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        expected = float(_share(gaps + middle).sum() + _share(agreeing + middle))
        low, high = (middle, high) if expected < wanted else (low, middle)
    return NewItemShift(round((low + high) / 2, 4), clicks, queries)


def _log_sum(scores: Floats, chosen: Mask) -> Floats:
    """Return the log of the sum of exp(score) of the chosen candidates, (B,); -inf if there are none."""
    return np.asarray(np.logaddexp.reduce(scores, axis=1, where=chosen, initial=-np.inf), dtype=np.float64)


def _share(gaps: Floats | float) -> Floats:
    """Return the share of the softmax that new items have."""
    return np.asarray(1 / (1 + np.exp(-np.asarray(gaps))), dtype=np.float64)
