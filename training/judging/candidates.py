"""Which items are candidates of a query: those the user has not seen, and those that are alive at its time.

The target is always a candidate, also where it is a repeat.

Symbols: B queries, R interactions, I items.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.data.prepare import Prepared
from training.rows.split import Rows, flat_places

Mask = NDArray[np.bool_]
"""(B, I+1), True for a candidate; column 0 is padding and means nothing."""

_NEVER: Final = np.iinfo(np.int64).max


def first_meetings(prepared: Prepared) -> NDArray[np.bool_]:
    """Return which interactions (R,) are the first one of their user with their item."""
    users = np.repeat(np.arange(len(prepared.users)), np.diff(prepared.user_starts))
    pairs = users * (len(prepared.items) + 1) + prepared.columns["items"]
    first = np.zeros(len(pairs), dtype=np.bool_)
    first[np.unique(pairs, return_index=True)[1]] = True
    return first


class Seen:
    """The items that each user met before a query: the whole known history, not only the model's window."""

    def __init__(self, prepared: Prepared) -> None:
        first = first_meetings(prepared)
        self._before = np.concatenate(([0], np.cumsum(first)))  # (R+1,) first meetings before each interaction
        self._items = prepared.columns["items"][first]
        self._width = len(prepared.items) + 1

    def unseen(self, piece: Rows) -> Mask:
        """Return the candidates without the items of each user's history."""
        starts, stops = self._before[piece.starts], self._before[piece.stops]
        rows = np.repeat(np.arange(len(starts)), stops - starts)
        mask = np.ones((len(starts), self._width), dtype=np.bool_)
        mask[rows, self._items[flat_places(starts, stops)]] = False
        mask[np.arange(len(starts)), piece.items] = True
        return mask


class Lifetimes:
    """The first and last event of every item, impressions included.

    Args:
        prepared: data with times.
        margin_ms: an item is alive until this long after its last event.
    """

    def __init__(self, prepared: Prepared, margin_ms: int) -> None:
        self.first = np.full(len(prepared.items) + 1, _NEVER)
        self._last = np.zeros(len(prepared.items) + 1, dtype=np.int64)
        logs = [prepared.columns] if prepared.impressions is None else [prepared.columns, prepared.impressions]
        for log in logs:
            np.minimum.at(self.first, log["items"], log["times_ms"])
            np.maximum.at(self._last, log["items"], log["times_ms"])
        self._margin_ms = margin_ms

    def alive(self, piece: Rows) -> Mask:
        """Return the candidates with an event before the query and one after it, minus the margin."""
        times = piece.times_ms[:, None]
        mask = (self.first < times) & (self._last >= times - self._margin_ms)
        mask[np.arange(len(times)), piece.items] = True
        return np.asarray(mask, dtype=np.bool_)
