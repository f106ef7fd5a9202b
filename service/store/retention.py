"""Chooses the behaviours of a user to keep and read: those that a served model can use come first.

A user can do many things that no model reads, such as 1,000 impressions after the last click, or act on items that are
newer than the model. Limits that treat all records the same would push the usable past out of the read, and finally
out of the key. So a behaviour is *usable* if a served model reads its action and knows its item, and *readable* if only
its action is read: the next bundle may know the item.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contract.behaviours import Records
from contract.vocabulary import Vocabulary
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
        np.maximum(found, _grades_of(bundle.items, bundle.manifest.sequence.action_codes, records), out=found)
    return found


def usable_count(bundle: Bundle, records: Records) -> int:
    """Return how many of the records a bundle can use."""
    found = _grades_of(bundle.items, bundle.manifest.sequence.action_codes, records)
    return int((found == USABLE).sum())


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


def _grades_of(items: Vocabulary, action_codes: NDArray[np.uint8], records: Records) -> Grades:
    reads = np.zeros(256, dtype=np.bool_)  # by action code; np.isin takes six times as long
    reads[action_codes] = True
    is_read = reads[records["action"]]
    is_known = items.indices_of_keys(records["item"]) > 0
    return np.asarray(is_read * (1 + is_known), dtype=np.int8)
