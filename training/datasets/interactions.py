"""What every source yields: raw interactions in the order of the file, and what is known of the items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contract.behaviours import ACTION_CODES, DEFAULT_ACTION


class DataError(ValueError):
    """The data are missing or malformed; the message says in one line where and what to do."""


@dataclass(frozen=True)
class ItemFacts:
    """What a source knows of an item, for people and as features."""

    title: str = ""
    genres: tuple[str, ...] = ()
    year: int | None = None


@dataclass(frozen=True)
class Interactions:
    """Columns of one length R, in the order of the source.

    Attributes:
        name: of the data set, as shown to people.
        source: where it came from, in words.
        digest: of the source's bytes; the same digest means the same interactions.
        users, items: public ids.
        times_ms: milliseconds since the epoch.
        actions: codes of contract.behaviours.
        values: a rating or 0, in tenths.
        plays_ms: played milliseconds or 0.
        catalogue: facts by item id; items without facts are allowed.
    """

    name: str
    source: str
    digest: str
    users: Sequence[str]
    items: Sequence[str]
    times_ms: NDArray[np.int64]
    actions: NDArray[np.int64]
    values: NDArray[np.int64]
    plays_ms: NDArray[np.int64]
    catalogue: dict[str, ItemFacts] = field(default_factory=dict)


def default_actions(count: int, action: str = DEFAULT_ACTION) -> NDArray[np.int64]:
    """Return `count` codes of one action."""
    return np.full(count, ACTION_CODES[action], dtype=np.int64)
