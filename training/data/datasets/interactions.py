"""The output of every source: raw interactions in the order of the file, impressions, and facts about items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.actions import ACTION_CODES, DEFAULT_ACTION
from contract.command_line import CommandError
from training.data.attributes import Attribute
from training.data.item_field import FieldSource

DEFAULT_WINDOW_MS: Final = 1_800_000  # between an impression and the action that answers it
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # of data sets, which are folders


class DataError(CommandError, ValueError):
    """The data are missing or malformed; the message is one line with the place and the remedy."""


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """A source's facts about an item, for people and as features.

    Attributes:
        title, genres, year: for people, and features if they are known.
        features: other fields by name, each with the names of its values; a number comes as the name of its bin.
    """

    title: str = ""
    genres: tuple[str, ...] = ()
    year: int | None = None
    features: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Impressions:
    """Impressions and their labels: columns of one length N, in the order of the source.

    Attributes:
        users, items: public ids.
        times_ms: milliseconds since the epoch.
        labels: 1 or 0.
        outcomes: what came of each, by name, in thousandths: 1000 or 0 for an action, or the share that was played.
        attributes: codes of the attributes of the request, by name, as in `Interactions`.
    """

    users: Sequence[str]
    items: Sequence[str]
    times_ms: NDArray[np.int64]
    labels: NDArray[np.int64]
    outcomes: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    attributes: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)


class Described(Protocol):
    """A source without its rows, which may be in memory or on disk."""

    @property
    def catalogue(self) -> Mapping[str, ItemFacts]:
        """Facts by item id, for people."""
        ...

    @property
    def fields(self) -> Mapping[str, FieldSource] | None:
        """Features of items by name; None = those of the catalogue."""
        ...


@dataclass(frozen=True)
class Interactions:
    """Columns of one length R, in the order of the source.

    Attributes:
        name: of the data set, as shown to people.
        source: the origin, in words.
        digest: of the source's bytes; the same digest means the same interactions.
        users, items: public ids.
        times_ms: milliseconds since the epoch.
        actions: codes of contract.behaviours.actions.
        values: a rating or 0, in tenths.
        plays_ms: played milliseconds or 0.
        catalogue: facts by item id; items without facts are allowed.
        context: (R,) True for behaviour from before the log begins: part of histories, never a target.
        impressions: the items shown with labels of the source; None if it has none.
        window_ms: rows of the action `impression` are impressions too: positive if the user acts on the item within
            this time; None = they are dropped.
        fields: features of the items by name; None = those of the catalogue.
        has_times: False if times are made up and only their order is real.
        read: the reader's counts by name, for the provenance.
        attributes: of the request at each row, by name.
    """

    name: str
    source: str
    digest: str
    users: Sequence[str]
    items: Sequence[str]
    times_ms: NDArray[np.int64]
    actions: NDArray[np.integer]
    values: NDArray[np.integer]
    plays_ms: NDArray[np.integer]
    catalogue: dict[str, ItemFacts] = field(default_factory=dict)
    context: NDArray[np.bool_] | None = None
    impressions: Impressions | None = None
    window_ms: int | None = None
    fields: Mapping[str, FieldSource] | None = None
    has_times: bool = True
    read: Mapping[str, int] = field(default_factory=dict)
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int, int]:
        """The numbers of rows, users and items."""
        return len(self.users), len(set(self.users)), len(set(self.items))

    @property
    def has_impressions(self) -> bool:
        """Whether the source has impressions, labelled or as rows of that action."""
        is_action = self.window_ms is not None and bool((self.actions == ACTION_CODES["impression"]).any())
        return is_action or self.impressions is not None


def default_actions(count: int, action: str = DEFAULT_ACTION) -> NDArray[np.int64]:
    """Return `count` codes of one action."""
    return np.full(count, ACTION_CODES[action], dtype=np.int64)
