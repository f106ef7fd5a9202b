"""A fixed sample of validation queries, in pieces that fit in memory, with the candidates of a feed.

Symbols: B queries, I items.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from training.data.prepare import Prepared
from training.data.times import HOUR_MS
from training.judging.candidates import Lifetimes, Mask, Seen
from training.judging.scores import Scorer
from training.recipe import SplitRecipe
from training.rows.split import Rows

_QUERIES: Final = 2_000
_PIECE: Final = 256


def sampled(
    scorer: Scorer, prepared: Prepared, recipe: SplitRecipe, rows: Rows, seed: int
) -> Iterator[tuple[Rows, Mask]]:
    """Yield pieces of the sample, and (B, I+1) the items alive that each query's user has not seen.

    Args:
        scorer: of the model; its bound on cells limits a piece.
        prepared: data with times.
        recipe: the margin of lifetimes.
        rows: queries; 2,000 of them are drawn.
        seed: of the draw.
    """
    chosen = np.random.default_rng(seed).permutation(len(rows.users))[:_QUERIES]
    size = max(1, min(_PIECE, scorer.cells // (len(prepared.items) + 1)))
    lifetimes, seen = Lifetimes(prepared, round(recipe.alive_margin_hours * HOUR_MS)), Seen(prepared)
    for start in range(0, len(chosen), size):
        piece = rows.take(np.sort(chosen[start : start + size]))
        candidates = lifetimes.alive(piece) & seen.unseen(piece)
        candidates[:, 0] = False
        yield piece, candidates
