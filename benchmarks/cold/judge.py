"""Queries of the test period, with new items placed in four ways among the known ones.

Symbols: B queries, I items, U users.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.prepare import Prepared
from training.data.times import HOUR_MS
from training.judging.candidates import Lifetimes, Mask, Seen
from training.judging.metrics import Floats, better_and_equal, ndcg
from training.judging.scores import Scorer, Scores
from training.recipe import SplitRecipe
from training.rows.split import Rows

WAYS: Final = ("last", "random", "prior", "features")
VIEWS: Final = ("new", "known", "all", "among new")
LISTED: Final = 200
"""Candidates of a query: as many as a first stage would send, drawn from the items alive that the user has not seen."""
_QUERIES: Final = 2_000
_PIECE: Final = 200
_SEED: Final = 5
_K: Final = 10


class Judged(NamedTuple):
    """NDCG@10 of each query by (way, view), and its user."""

    values: dict[tuple[str, str], Floats]
    users: dict[str, NDArray[np.int64]]  # by view
    new_share: float  # of the test clicks
    new_candidates: float  # share of candidates, mean over queries
    candidates: float  # mean over queries


def judge(
    scorer: Scorer,
    prepared: Prepared,
    recipe: SplitRecipe,
    rows: Rows,
    popularity: NDArray[np.float32],
    quantile: float,
) -> Judged:
    """Rank a fixed sample of test queries, and a further sample of those whose target is new.

    Args:
        scorer: of the model.
        prepared: data with times.
        recipe: the margin of lifetimes.
        rows: test queries.
        popularity: (I+1,) training interactions by item index; an item without one is new.
        quantile: the prior of new items.
    """
    is_new = popularity == 0
    lifetimes, seen = Lifetimes(prepared, round(recipe.alive_margin_hours * HOUR_MS)), Seen(prepared)
    rng = np.random.default_rng(_SEED)
    on_new = is_new[rows.items]
    even = rng.permutation(len(rows.items))[:_QUERIES]
    extra = np.setdiff1d(rng.permutation(np.flatnonzero(on_new))[:_QUERIES], even)
    values: dict[tuple[str, str], list[Floats]] = defaultdict(list)
    users: dict[str, list[NDArray[np.int64]]] = defaultdict(list)
    shares, counts = [], []
    for sample, is_even in ((even, True), (extra, False)):
        for start in range(0, len(sample), _PIECE):
            piece = rows.take(sample[start : start + _PIECE])
            alive = lifetimes.alive(piece) & seen.unseen(piece)
            alive[:, 0] = False
            counts.append(alive.sum(axis=1))
            shares.append((alive & is_new).sum(axis=1) / counts[-1])
            listed, new_listed = _drawn(alive, piece, rng), _drawn(alive & is_new, piece, rng)
            scores, mine = scorer.all(piece), is_new[piece.items]
            for view, chosen in _views(mine, is_even):
                users[view].append(piece.users[chosen])
            for way in WAYS:
                found = _ndcg(_placed(way, scores, listed, is_new, quantile, rng), piece, listed)
                among = _ndcg(scores if way == "features" else np.zeros_like(scores), piece, new_listed)
                for view, chosen in _views(mine, is_even):
                    values[way, view].append((among if view == "among new" else found)[chosen])
    joined = {key: np.concatenate(found) for key, found in values.items()}
    return Judged(
        joined, {view: np.concatenate(found) for view, found in users.items()}, float(on_new.mean()),
        float(np.concatenate(shares).mean()), float(np.concatenate(counts).mean()),
    )  # fmt: skip


def _drawn(candidates: Mask, piece: Rows, rng: np.random.Generator) -> Mask:
    """Return the target and at most LISTED - 1 other candidates of each query, drawn evenly."""
    places = np.arange(len(candidates))
    keys = np.where(candidates, rng.random(candidates.shape), 2.0)
    keys[places, piece.items] = -1.0
    last = np.partition(keys, min(LISTED, keys.shape[1]) - 1, axis=1)[:, min(LISTED, keys.shape[1]) - 1]
    drawn = candidates & (keys <= last[:, None])
    drawn[places, piece.items] = True
    return np.asarray(drawn, dtype=np.bool_)


def _views(mine: NDArray[np.bool_], is_even: bool) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the queries of each view; the further queries on new items do not count in an average over all."""
    views = [("new", mine), ("among new", mine)]
    return [*views, ("known", ~mine), ("all", np.ones_like(mine))] if is_even else views


def _ndcg(scores: Scores, piece: Rows, candidates: Mask) -> Floats:
    g, e = better_and_equal(scores[:, 1:], piece.items - 1, candidates[:, 1:])
    return ndcg(g, e, _K)


def _placed(
    way: str, scores: Scores, candidates: Mask, is_new: NDArray[np.bool_], quantile: float, rng: np.random.Generator
) -> Scores:
    """Return the scores (B, I+1) with those of new items replaced in the given way."""
    if way == "features":
        return scores
    placed, new = scores.copy(), np.flatnonzero(is_new)
    lowest = float(scores.min()) - 1.0
    if way == "last":
        placed[:, new] = lowest
        return placed
    known = np.sort(np.where(candidates & ~is_new, scores, np.inf), axis=1)
    count = np.isfinite(known).sum(axis=1)
    at = np.full((len(scores), len(new)), quantile) if way == "prior" else rng.random((len(scores), len(new)))
    places = np.minimum((at * count[:, None]).astype(np.int64), np.maximum(count - 1, 0)[:, None])
    found = np.take_along_axis(known, places, axis=1)
    placed[:, new] = np.where(np.isfinite(found), found, 0.0)
    return placed
