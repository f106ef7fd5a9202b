"""Chooses the behaviours of a user to keep and read: those that a served model can use come first.

A user can do many things that no model reads, such as 1,000 impressions after the last click, or act on items that are
newer than the model. Limits that treat all records the same would push the usable past out of the read, and finally
out of the key. So a behaviour is *usable* if a served model reads its action and knows its item, and *readable* if only
its action is read: the next bundle may know the item.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.actions import ACTION_CODES, Action
from contract.behaviours.records import Records
from service.bundles.bundle import Bundle

USABLE: Final = 2
READABLE: Final = 1
UNREAD: Final = 0

Grades = NDArray[np.int8]


def grades(bundles: Iterable[Bundle], records: Records) -> Grades:
    """Return for each record whether a bundle can use it, only reads its action, or neither; shape (R,).

    Without a bundle every record is readable.
    """
    bundles = list(bundles)
    if not bundles:
        return np.full(len(records), READABLE, dtype=np.int8)
    found = np.zeros(len(records), dtype=np.int8)
    for bundle in bundles:
        np.maximum(found, _grades_of(bundle, records), out=found)
    return found


def fills(bundle: Bundle, records: Records) -> bool:
    """Return whether a bundle can use enough of the records to fill its sequence; the newest often are enough."""
    length = bundle.manifest.sequence.length
    return any(usable_count(bundle, part) >= length for part in (records[-length:], records))


def usable_count(bundle: Bundle, records: Records) -> int:
    """Return how many of the records a bundle can use."""
    is_read = _reads(bundle.manifest.sequence.actions)[records["action"]]
    return int(np.count_nonzero(bundle.items.indices_of_keys(records["item"]) * is_read))


def retained(records: Records, found: Grades, most: int) -> Records:
    """Return the records to keep of one user, at most `most`, sorted by time (equal times in stored order).

    First the newest half of `most` that are usable, then the newest readable ones, then the newest others.

    Args:
        records: (R,) as stored.
        found: (R,) from `grades`.
        most: maximum number of records to keep.
    """
    order = np.argsort(records["time_ms"], kind="stable")
    records, found = records[order], found[order]
    if len(records) <= most:
        return records
    kept = np.zeros(len(records), dtype=np.bool_)
    kept[np.flatnonzero(found == USABLE)[::-1][: max(1, most // 2)]] = True
    for grade in (READABLE, UNREAD):
        room = most - int(kept.sum())
        kept[np.flatnonzero((found >= grade) & ~kept)[::-1][:room]] = True
    return records[kept]


def _grades_of(bundle: Bundle, records: Records) -> Grades:
    is_read = _reads(bundle.manifest.sequence.actions)[records["action"]]
    is_known = bundle.items.indices_of_keys(records["item"]) > 0
    return np.asarray(is_read * (1 + is_known), dtype=np.int8)


@lru_cache(maxsize=64)
def _reads(actions: tuple[Action, ...]) -> NDArray[np.bool_]:
    """Return which action codes a model reads: np.isin takes six times as long."""
    reads = np.zeros(256, dtype=np.bool_)
    reads[[ACTION_CODES[action] for action in actions]] = True
    return reads
