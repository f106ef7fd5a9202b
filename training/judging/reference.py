"""The record of scores and inputs on validation, which a service compares its traffic with (reference.json).

Lengths, ages and items of histories are those of up to 2,000 queries; scores are those of up to 500 of them, of 100
candidates each, drawn from the candidates of the view that leaves out seen items, or of the items shown.

Symbols: B queries, n candidates of a query, I items.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.bundle.reference import AGES, LENGTHS, BinnedScores, BinnedWhole, Items, Reference
from contract.bundle.tensors import windows
from training.data.prepare import Prepared
from training.data.times import HOUR_MS
from training.judging.candidates import Lifetimes, Seen
from training.judging.scores import Scorer
from training.recipe import SplitRecipe
from training.rows.split import Rows

_QUERIES: Final = 2_000
_SCORED: Final = 500  # queries
_DRAWN: Final = 100  # candidates of each
_SHOWN: Final = 20_000  # items shown that are scored
_PIECE: Final = 256
_BUCKETS: Final = 10
_SEED: Final = 20_261_126
_CELLS: Final = 20_000_000  # of a mask of candidates (B, I+1)

Counts = NDArray[np.int64]


class _Drawn(NamedTuple):
    scores: NDArray[np.float32]
    candidates: Counts  # of these scores


def reference_of(
    scorer: Scorer, prepared: Prepared, recipe: SplitRecipe, rows: Rows, popularity: NDArray[np.float32], length: int
) -> Reference:
    """Return the record of a model.

    Args:
        scorer: of the model.
        prepared: the data.
        recipe: the protocol, which decides on the candidates.
        rows: validation queries; a fixed sample of them is used.
        popularity: (I+1,) training interactions by item index; an item without one counts as unknown.
        length: T, the behaviours that the model reads at most.
    """
    rng = np.random.default_rng(_SEED)
    drawn = _drawn(scorer, prepared, recipe, rows, rng)
    rows, is_new = rows.take(rng.permutation(_queries(rows, recipe))[:_QUERIES]), popularity == 0
    history = windows({"items": prepared.columns["items"]}, rows.starts, rows.stops, length)["items"]
    return Reference(
        queries=len(rows.users),
        scores=_scores(drawn.scores),
        lengths=_whole(np.minimum(rows.stops - rows.starts, length), LENGTHS),
        ages=_ages(prepared, rows),
        candidates=_items(is_new[drawn.candidates]),
        behaviours=_items(is_new[history[history > 0]]),
    )


def _queries(rows: Rows, recipe: SplitRecipe) -> Counts:
    """Return the places of the queries; several items shown to a user at one time are one query."""
    if recipe.protocol != "impressions":
        return np.arange(len(rows.users))
    return np.unique(np.stack((rows.users, rows.times_ms)), axis=1, return_index=True)[1]


def _drawn(scorer: Scorer, prepared: Prepared, recipe: SplitRecipe, rows: Rows, rng: np.random.Generator) -> _Drawn:
    """Return the scores of drawn candidates, and the candidates."""
    shown = recipe.protocol == "impressions"
    rows = rows.take(rng.permutation(len(rows.users))[: _SHOWN if shown else _SCORED])
    pieces = _shown(rows) if shown else _candidates(prepared, recipe, rows, scorer, rng)
    found = [(scorer.lists(piece, candidates).ravel(), candidates.ravel()) for piece, candidates in pieces]
    return _Drawn(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _shown(rows: Rows) -> Iterator[tuple[Rows, Counts]]:
    """Yield pieces of the rows, each with the item shown, (B, 1)."""
    for piece in _pieces(rows, _PIECE):
        yield piece, piece.items[:, None]


def _candidates(
    prepared: Prepared, recipe: SplitRecipe, rows: Rows, scorer: Scorer, rng: np.random.Generator
) -> Iterator[tuple[Rows, Counts]]:
    """Yield pieces of the queries with items drawn from their candidates with replacement, (B, n)."""
    seen = Seen(prepared)
    lifetimes = Lifetimes(prepared, round(recipe.alive_margin_hours * HOUR_MS)) if recipe.protocol == "time" else None
    for piece in _pieces(rows, max(1, min(_PIECE, scorer.cells // _DRAWN, _CELLS // (len(prepared.items) + 1)))):
        mask = seen.unseen(piece)
        mask &= lifetimes.alive(piece) if lifetimes is not None else True
        mask[:, 0] = False
        allowed = [np.flatnonzero(row) for row in mask]  # the target at least
        yield piece, np.stack([one[rng.integers(0, len(one), _DRAWN)] for one in allowed])


def _pieces(rows: Rows, size: int) -> Iterator[Rows]:
    for start in range(0, len(rows.users), size):
        yield rows.take(np.arange(start, min(start + size, len(rows.users))))


def _scores(scores: NDArray[np.float32]) -> BinnedScores:
    """Return buckets with about the same number of scores; fewer buckets if many of them are equal."""
    shares = np.arange(1, _BUCKETS) / _BUCKETS
    edges = np.unique(np.quantile(scores, shares, method="inverted_cdf").astype(np.float32))
    return BinnedScores(edges=tuple(edges.tolist()), counts=_tally(scores, edges))


def _ages(prepared: Prepared, rows: Rows) -> BinnedWhole | None:
    has_any = rows.stops > rows.starts
    if not prepared.has_times or not bool(has_any.any()):
        return None
    newest = prepared.columns["times_ms"][rows.stops[has_any] - 1]
    return _whole(np.maximum(rows.times_ms[has_any] - newest, 0) // 1000, AGES)


def _whole(values: Counts, edges: tuple[int, ...]) -> BinnedWhole:
    return BinnedWhole(edges=edges, counts=_tally(values, np.array(edges)))


def _tally(values: Counts | NDArray[np.float32], edges: Counts | NDArray[np.float32]) -> tuple[int, ...]:
    places = edges.searchsorted(values, side="left")
    return tuple(np.bincount(places, minlength=len(edges) + 1).tolist())


def _items(is_new: NDArray[np.bool_]) -> Items:
    unknown = int(is_new.sum())
    return Items(known=len(is_new) - unknown, unknown=unknown)
