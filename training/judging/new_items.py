"""The prior of new items: how often users click them, compared with known items, learnt from validation queries.

An item without an interaction in training and without features has no score. Its place among the scored candidates
follows from clicks on validation: known candidates are cut into parts by the quantile of their score, each part has a
click rate, and so have new candidates. The prior is the quantile at which both rates are equal.

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
from training.judging.scores import Scorer, Scores
from training.recipe import SplitRecipe
from training.rows.split import Rows

PARTS: Final = 20
_SEED: Final = 20_251_126


class NewItemPrior(NamedTuple):
    """See the module's docstring.

    Attributes:
        quantile: of the scores of known candidates, from 0 (the lowest) to 1.
        clicks: on new items.
        shown: new items among the candidates of all queries.
    """

    quantile: float
    clicks: int
    shown: int


class _Counts(NamedTuple):
    clicks: Floats  # (PARTS,) on known items, lowest scores first
    shown: float  # known candidates
    new_clicks: int
    new_shown: int


def learn_prior(
    scorer: Scorer, prepared: Prepared, recipe: SplitRecipe, rows: Rows, popularity: NDArray[np.float32]
) -> NewItemPrior:
    """Return the prior from queries; each is ranked among the items alive that its user has not seen.

    Args:
        scorer: of the model.
        prepared: data with times.
        recipe: the margin of lifetimes.
        rows: validation queries; a fixed sample of them is used.
        popularity: (I+1,) training interactions by item index; an item without one is new.
    """
    is_new = popularity == 0
    pieces = sampled(scorer, prepared, recipe, rows, _SEED)
    found = [_counted(scorer.all(piece), piece, candidates, is_new) for piece, candidates in pieces]
    sums = [sum(column) for column in zip(*found, strict=True)]
    return prior_of(np.asarray(sums[0]), float(sums[1]), int(sums[2]), int(sums[3]))


def prior_of(clicks: Floats, shown: float, new_clicks: int, new_shown: int) -> NewItemPrior:
    """Return the prior from counts.

    The rate of new items has one click of the mean rate added, so that data without new items give the quantile of an
    average known item.

    Args:
        clicks: on known items by part of the quantile, lowest first.
        shown: known candidates, as many in each part.
        new_clicks: on new items.
        new_shown: new candidates.
    """
    if not clicks.sum() or not shown:
        return NewItemPrior(0.5, new_clicks, new_shown)
    mean = float(clicks.sum()) / shown
    rate = (new_clicks + 1) / (new_shown + 1 / mean)
    rates = rising(clicks / (shown / len(clicks)))
    centres = (np.arange(len(clicks)) + 0.5) / len(clicks)
    return NewItemPrior(round(float(np.interp(rate, rates, centres)), 4), new_clicks, new_shown)


def rising(values: Floats) -> Floats:
    """Return the rising values that are nearest to these (least squares): neighbours that fall get their mean."""
    means: list[float] = []
    sizes: list[int] = []
    for value in values.tolist():
        means.append(value)
        sizes.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            mean, size = means.pop(), sizes.pop()
            means[-1] = (means[-1] * sizes[-1] + mean * size) / (sizes[-1] + size)
            sizes[-1] += size
    return np.repeat(np.array(means), sizes)


def _counted(scores: Scores, piece: Rows, candidates: Mask, is_new: NDArray[np.bool_]) -> _Counts:
    known, places = candidates & ~is_new, np.arange(len(piece.items))
    on_new = is_new[piece.items]
    own = scores[places, piece.items][:, None]
    below = (known & (scores < own)).sum(axis=1) + 0.5 * ((known & (scores == own)).sum(axis=1) - 1)
    quantiles = np.clip(below / np.maximum(known.sum(axis=1) - 1, 1), 0, 1)[~on_new]
    clicks = np.bincount(np.minimum((quantiles * PARTS).astype(np.int64), PARTS - 1), minlength=PARTS)
    new_shown = int((candidates & is_new).sum())
    return _Counts(clicks.astype(np.float64), float(known.sum()), int(on_new.sum()), new_shown)
