"""The life of items, and how often users come back to one: counted while the rows are written.

Symbols: R rows, I items.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.actions import ACTIONS
from training.data.kept import Column, Columns
from training.data.plausibility import Report
from training.data.times import DAY_MS, HOUR_MS


class Life:
    """Counts over batches of whole users; each has its rows in the order of user and time.

    Attributes:
        targets, repeats: as `count_repeats` counts them.
        adjacent: rows with the item of the row before.
        ahead: rows later than the clock.
        by_user: rows of each user.
    """

    def __init__(self, users: int, items: int, now_ms: int) -> None:
        self._now_ms = now_ms
        self.born = np.full(items + 1, np.iinfo(np.int64).max)
        self.died = np.full(items + 1, -1)
        self.by_user = np.zeros(users, dtype=np.int64)
        self.targets = self.repeats = self.adjacent = self.ahead = 0

    def add(self, batch: Columns) -> None:
        """Count a batch."""
        users, items, times = batch["users"], batch["items"], batch["times_ms"]
        targets, repeats = count_repeats(users, batch)
        self.targets += targets
        self.repeats += repeats
        self.adjacent += int(((users[1:] == users[:-1]) & (items[1:] == items[:-1])).sum())
        self.ahead += int((times > self._now_ms).sum())
        np.minimum.at(self.born, items, times)
        np.maximum.at(self.died, items, times)
        self.by_user += np.bincount(users, minlength=len(self.by_user))

    @property
    def repeat_share(self) -> float:
        """The share of targets that repeat what their user did before."""
        return self.repeats / max(self.targets, 1)

    @property
    def within_a_day(self) -> int:
        """Items whose first and last row are less than a day apart."""
        return int(((self.died >= 0) & (self.died - self.born < DAY_MS)).sum())

    def last_day(self, chunks: Iterable[list[Column]]) -> Report:
        """Return the counts of the last day and the last 6 hours; a chunk is items and times_ms.

        | Count | Rows |
        | --- | --- |
        | last_day | of the last 24 hours |
        | last_day_young | of those, on items whose first row is less than a day older |
        | last_6h | of the last 6 hours |
        | last_6h_new | of those, on items without an earlier row: a model that was trained before knows none of them |
        """
        end, found = int(self.died.max()), np.zeros(4, dtype=np.int64)
        for items, times in chunks:
            day, hours, born = times > end - DAY_MS, times > end - 6 * HOUR_MS, self.born[items]
            young, new = day & (times - born < DAY_MS), hours & (born > end - 6 * HOUR_MS)
            found += [int(rows.sum()) for rows in (day, young, hours, new)]
        return dict(zip(("last_day", "last_day_young", "last_6h", "last_6h_new"), found.tolist(), strict=True))


def count_repeats(users: Column, columns: Columns) -> tuple[int, int]:
    """Return the number of targets, and how many of them repeat what their user did before.

    A target is a row with a history that is not context. A repeat has the action and the item of an earlier row of its
    user: a like after a click on the same item is not a repeat.

    Args:
        users: (R,) in ascending order.
        columns: items, actions and context (R,), the rows of each user in the order of time.
    """
    targets = np.concatenate((np.zeros(min(len(users), 1), dtype=np.bool_), users[1:] == users[:-1]))
    targets &= columns["context"] == 0
    repeats = targets & _met(users, columns["items"] * len(ACTIONS) + columns["actions"])
    return int(targets.sum()), int(repeats.sum())


def _met(users: Column, deeds: Column) -> NDArray[np.bool_]:
    """Return which rows (R,) repeat a deed, an item and an action, of an earlier row of their user."""
    order = np.lexsort((deeds, users))  # stable: equal pairs stay in the order of time
    again = (users[order][1:] == users[order][:-1]) & (deeds[order][1:] == deeds[order][:-1])
    met = np.zeros(len(users), dtype=np.bool_)
    met[order[1:]] = again
    return met
