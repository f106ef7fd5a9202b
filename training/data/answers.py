"""Which impressions led to an action: of the same user, on the same item, within a window.

Symbols: N impressions, M actions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.int64]


def answered(shown: Column, shown_ms: Column, acted: Column, acted_ms: Column, window_ms: int) -> Column:
    """Return 1 for each impression that an action follows within the window, else 0; (N,).

    Args:
        shown: (N,) pairs of user and item, as one number.
        shown_ms: (N,) times.
        acted: (M,) pairs of the actions.
        acted_ms: (M,) times.
        window_ms: the longest time between both; an action at the same time counts.
    """
    pairs, times = np.concatenate((shown, acted)), np.concatenate((shown_ms, acted_ms))
    is_action = np.arange(len(pairs)) >= len(shown)
    order = np.lexsort((is_action, times, pairs))  # at equal times the impression comes first
    places = np.arange(len(order))
    none = len(order)
    following = np.minimum.accumulate(np.where(is_action[order], places, none)[::-1])[::-1]
    target = order[np.minimum(following, none - 1)]
    led = (following < none) & (pairs[target] == pairs[order]) & (times[target] - times[order] <= window_ms)
    labels = np.zeros(none, dtype=np.int64)
    labels[order] = led
    return labels[: len(shown)]
