"""Draws the negatives of training batches, with the expected number of draws of each.

| `negatives_from` | Negatives of a row | Expected number of draws of item j |
| --- | --- | --- |
| row | n items, uniform over what the row allows | n / number of allowed items |
| shared | the batch's n items, uniform over all | n / I |
| batch | the targets of the batch's other rows, B - 1 | (B - 1) q_j |
| mixed | both | (B - 1) q_j + n / I |

q_j is the chance that item j is the target of a row. For two sources together the sum is the right correction of a
draw (the balance heuristic of multiple importance sampling): the estimate of the sum over all items has no bias.
A draw that is the row's own target or one of its seen items stays in the list, and models/parts/objectives.py leaves it
out.

Symbols: B rows, T length, I items, n negatives.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.recipe import TrainingRecipe
from training.rows.negatives import draw_outside


class Draws:
    """Draws negatives for one epoch.

    Args:
        recipe: how many, and from where.
        chances: (I+1,) of each item to be a row's target.
    """

    def __init__(self, recipe: TrainingRecipe, chances: NDArray[np.float64]) -> None:
        self._recipe, self._chances, self._item_count = recipe, chances, len(chances) - 1

    def __call__(
        self,
        rng: np.random.Generator,
        window: NDArray[np.int64],
        targets: NDArray[np.int64],
        all_targets: NDArray[np.int64] | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the negatives, (B, n) or (n,) for all rows, and the log of the expected number of draws of each.

        `all_targets` are those of the whole batch, if several processes share it; the rows are one process's.
        """
        if self._recipe.negatives_from == "row":
            return self._of_each_row(rng, window, targets) if self._recipe.negatives else (None, None)
        return self._of_the_batch(rng, targets if all_targets is None else all_targets)

    def _of_each_row(
        self, rng: np.random.Generator, window: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        kept = window[:, : 0 if self._recipe.seen == "keep" else None]
        excluded = np.concatenate((kept, targets[:, None]), axis=1)
        drawn, allowed = draw_outside(rng, excluded, self._item_count, self._recipe.negatives)
        return torch.from_numpy(drawn), _log(self._recipe.negatives / allowed)

    def _of_the_batch(self, rng: np.random.Generator, targets: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        uniform = rng.integers(1, self._item_count + 1, self._recipe.negatives)
        share = self._recipe.negatives / self._item_count
        if self._recipe.negatives_from == "shared":
            return torch.from_numpy(uniform), _log(np.array([share]))
        items = np.concatenate((targets, uniform))
        return torch.from_numpy(items), _log(max(len(targets) - 1, 1) * self._chances[items] + share)


def _log(counts: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.log(counts).astype(np.float32))
