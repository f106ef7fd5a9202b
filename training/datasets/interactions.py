"""What every source yields: raw interactions in the order of the file, what was shown, and what is known of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contract.behaviours import ACTION_CODES, DEFAULT_ACTION
from contract.command_line import CommandError

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # of data sets, which are folders


class DataError(CommandError, ValueError):
    """The data are missing or malformed; the message says in one line where and what to do."""


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What a source knows of an item, for people and as features.

    Attributes:
        title, genres, year: for people, and features where they are known.
        features: other fields by name, each with the names of its values; a number comes as the name of its bin.
    """

    title: str = ""
    genres: tuple[str, ...] = ()
    year: int | None = None
    features: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Impressions:
    """What was shown, and whether it was liked: columns of one length N, in the order of the source.

    Attributes:
        users, items: public ids.
        times_ms: milliseconds since the epoch.
        labels: 1 or 0.
    """

    users: Sequence[str]
    items: Sequence[str]
    times_ms: NDArray[np.int64]
    labels: NDArray[np.int64]


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
        context: (R,) True for what was known before the log begins: it is part of histories and never a target.
        impressions: what was shown; None if the source does not say.
        has_times: False where times are made up and tell the order alone.
        read: what the reader saw and left out, by name, for the provenance.
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
    context: NDArray[np.bool_] | None = None
    impressions: Impressions | None = None
    has_times: bool = True
    read: Mapping[str, int] = field(default_factory=dict)


def default_actions(count: int, action: str = DEFAULT_ACTION) -> NDArray[np.int64]:
    """Return `count` codes of one action."""
    return np.full(count, ACTION_CODES[action], dtype=np.int64)
