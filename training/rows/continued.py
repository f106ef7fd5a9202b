"""The rows of a training that goes on from an earlier one: those that it did not learn, and some that it did."""

from __future__ import annotations

import numpy as np

from training.rows.split import Rows, SplitError

_SEED = 5_102


def continued(rows: Rows, since_ms: int, replay: float, seed: int) -> tuple[Rows, int]:
    """Return the rows after a time with `replay` older ones for each, and the number of those after it.

    Older rows are drawn without replacement, the same ones for the same seed and rows. They keep the model from
    forgetting what did not happen today.

    Args:
        rows: of training.
        since_ms: the newest row that the earlier training learnt.
        replay: older rows per new one.
        seed: the recipe's.

    Raises:
        SplitError: no row is newer.
    """
    new, old = np.flatnonzero(rows.times_ms > since_ms), np.flatnonzero(rows.times_ms <= since_ms)
    if not len(new):
        raise SplitError("no row is newer than those that the earlier run learnt; prepare newer data")
    wanted = min(len(old), round(replay * len(new)))
    drawn = np.random.default_rng((_SEED, seed, len(rows.items))).permutation(old)[:wanted]
    return rows.take(np.sort(np.concatenate((drawn, new)))), len(new)
