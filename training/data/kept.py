"""The rows that remain of a source, ordered by user and time, for `write.py`.

Symbols: R rows of a batch, U users, N impressions of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.data.files.coded_ids import CodedIds
from training.data.plausibility import Report

Column = NDArray[np.int64]
Columns = dict[str, Column]

COLUMNS = ("items", "times_ms", "actions", "values", "plays", "context")
IMPRESSIONS = ("users", "items", "times_ms", "labels")
OUTCOME = "outcome."
"""Before the name of an outcome, in columns of impressions."""
REQUEST = "request."
"""Before the name of an attribute of the request, in columns of interactions and of impressions: codes, 0 = unknown."""


@dataclass(frozen=True)
class Kept:
    """The interactions and impressions that remain.

    Attributes:
        user_ids, item_ids: public ids; the item of index k is `item_ids[k - 1]`.
        dropped: how many rows were dropped, by reason.
        batches: yields the rows of whole users, in the order of user and time: `users` (R,), places in `user_ids`, and
            COLUMNS (R,).
        shown: yields IMPRESSIONS and outcomes (N,) in the order of time; None if the source has none.
        outcomes: names of those columns.
        attributes: by attribute of the request, the texts of its codes from 1; both have columns `request.NAME`.
    """

    user_ids: list[str]
    item_ids: list[str]
    dropped: Report
    batches: Callable[[], Iterator[Columns]]
    shown: Callable[[], Iterator[Columns]] | None
    outcomes: tuple[str, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def attribute_columns(self) -> tuple[str, ...]:
        """Return the names of the columns of attributes."""
        return tuple(f"{REQUEST}{name}" for name in self.attributes)


def distinct(ids: Sequence[str]) -> list[str]:
    """Return the distinct ids by first appearance."""
    if isinstance(ids, CodedIds):
        return [ids.names[code] for code in np.unique(ids.codes).tolist()]
    return list(dict.fromkeys(ids))


def codes_of(ids: Sequence[str]) -> tuple[list[str], NDArray[np.int32]]:
    """Return the distinct ids by first appearance, so that indices do not depend on how ids sort, and the codes."""
    if isinstance(ids, CodedIds):
        return ids.names, ids.codes
    seen: dict[str, int] = {}
    codes = np.fromiter((seen.setdefault(text, len(seen)) for text in ids), dtype=np.int32, count=len(ids))
    return list(seen), codes


def with_new(names: list[str], used: NDArray[np.int32], known: Sequence[str]) -> tuple[list[str], Column]:
    """Return the known ids and then the used ones, and the place of each code of `names` among them.

    Args:
        names: ids by code.
        used: codes in use, in the order in which their ids are added.
        known: ids of an earlier preparation.
    """
    places = {name: place for place, name in enumerate(known)}
    place_of = np.full(len(names), -1, dtype=np.int64)
    for code in used.tolist():
        place_of[code] = places.setdefault(names[code], len(places))
    return list(places), place_of
