"""The queries for training, for selecting the model, and for testing it.

| Protocol | Queries | Split |
| --- | --- | --- |
| leave_last_out | every interaction except a user's first | per user: the last `held` test, the `held` before
validation |
| time | every interaction that has a history | by time: 70% training, 10% validation, 20% test, or the last hours |
| impressions | every item that was shown, with its label | as time |
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.command_line import CommandError
from models.base import InteractionLog
from training.data.kept import OUTCOME, REQUEST
from training.data.prepare import Prepared
from training.data.times import HOUR_MS
from training.recipe import Protocol

Part = Literal["train", "valid", "test"]

TRAIN_SHARE: Final = 0.7
TEST_SHARE: Final = 0.2
"""Shares of all queries in time order; the queries in between are validation."""

_LATEST: Final = np.iinfo(np.int64).max

Places = NDArray[np.int64]
Hours = tuple[float, float]


class SplitError(CommandError, ValueError):
    """The data cannot be split this way; the message names the reason."""


class Rows(NamedTuple):
    """Queries: user k's interactions from `starts` up to, not including, `stops` are known; the item is the target.

    Each (N,); starts and stops are places in the flat columns of the prepared data.
    """

    users: Places  # place in user_starts, from 0
    starts: Places
    stops: Places
    items: Places  # the next item, or the item shown
    times_ms: Places  # of the request
    labels: NDArray[np.float32] | None = None  # of the item shown: 1 or 0
    weights: NDArray[np.float32] | None = None  # in the loss; None = equal
    outcomes: NDArray[np.float32] | None = None  # of the item shown: (N, H), 0 to 1, in the order of Prepared.outcomes
    attributes: Places | None = None  # of the request: codes (N, A), in the order of Prepared.attributes

    def take(self, chosen: Places) -> Rows:
        """Return some of the rows."""
        labels, weights, outcomes = (None if column is None else column[chosen] for column in self[5:8])
        users, starts, stops, items, times_ms = (column[chosen] for column in self[:5])
        attributes = None if self.attributes is None else self.attributes[chosen]
        return Rows(users, starts, stops, items, times_ms, labels, weights, outcomes, attributes)


class Split(NamedTuple):
    """Rows for training, validation and test. The history of a later row includes the targets of earlier ones."""

    train: Rows
    valid: Rows
    test: Rows


def split(prepared: Prepared, protocol: Protocol, held: int = 1, hours: Hours | None = None) -> Split:
    """Split prepared data.

    Args:
        prepared: the data.
        protocol: see above.
        held: of leave_last_out.
        hours: of validation and test at the end of the log, instead of shares (time, impressions).

    Raises:
        SplitError: the data have no times, or no impressions, that the protocol needs; or too few interactions, or
            impressions of one label.
    """
    parts = _split(prepared, protocol, held, hours)
    empty = [name for name, rows in parts._asdict().items() if not len(rows.users)]
    if empty:
        raise SplitError(f"{prepared.directory.name}: no queries for {' and '.join(empty)}: {_remedy(protocol, hours)}")
    for name, rows in (("validation", parts.valid), ("test", parts.test)):
        if rows.labels is not None and len(np.unique(rows.labels > 0)) < 2:
            kind = "positive" if rows.labels[0] > 0 else "negative"
            raise SplitError(
                f"{prepared.directory.name}: all {len(rows.labels):,} impressions of {name} are {kind}, and AUC needs "
                f"both labels: does the log have the actions of its last impressions?"
            )
    return parts


def _remedy(protocol: Protocol, hours: Hours | None) -> str:
    if hours is not None:
        return "valid_hours = {:g} and test_hours = {:g} leave none there; set other hours".format(*hours)
    needed = "users with 3 or more interactions" if protocol == "leave_last_out" else "10 or more queries"
    return f"protocol {protocol!r} needs {needed}"


def _split(prepared: Prepared, protocol: Protocol, held: int, hours: Hours | None) -> Split:
    if protocol == "leave_last_out":
        return leave_last_out(prepared, held)
    if not prepared.has_times:
        raise SplitError(f"{prepared.directory.name} has no times: protocol {protocol!r} cannot be used")
    rows = instances(prepared) if protocol == "time" else impressions(prepared)
    train, test = _cuts(rows.times_ms, hours)
    places = np.arange(len(rows.users))
    return Split(rows.take(places[:train]), rows.take(places[train:test]), rows.take(places[test:]))


def every_row(prepared: Prepared, protocol: Protocol) -> Rows:
    """Return the rows of all parts together: what a fit without validation learns.

    Raises:
        SplitError: as `split`.
    """
    parts = _split(prepared, protocol, 1, None)
    labels, weights = _joined([rows.labels for rows in parts]), _joined([rows.weights for rows in parts])
    outcomes = _joined([rows.outcomes for rows in parts])
    asked = [rows.attributes for rows in parts if rows.attributes is not None]
    attributes = np.concatenate(asked) if asked else None
    users, starts, stops, items, times_ms = (
        np.concatenate(columns) for columns in zip(*(rows[:5] for rows in parts), strict=True)
    )
    if not len(users):
        raise SplitError(f"{prepared.directory.name}: there are no rows to learn")
    return Rows(users, starts, stops, items, times_ms, labels, weights, outcomes, attributes)


def _joined(columns: list[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    given = [column for column in columns if column is not None]
    return np.concatenate(given) if given else None


def leave_last_out(prepared: Prepared, held: int = 1) -> Split:
    """Split each user's targets: the last `held` are test, the `held` before them validation, the rest training.

    One row per prefix: every interaction except a user's first is the target of one row, if it counts.
    held=1 is leave-one-out; held=5 has five times the queries and half the standard error, which suits ablations.
    """
    targets, later = _targets_and_later(prepared)
    parts = (later >= 2 * held, (later >= held) & (later < 2 * held), later < held)
    return Split(*(_targets(prepared, targets[part]) for part in parts))


def _targets_and_later(prepared: Prepared) -> tuple[Places, Places]:
    """Return the places of all targets, context included, and for each how many later ones its user has."""
    first = np.repeat(prepared.user_starts[:-1], np.diff(prepared.user_starts))
    places = np.arange(prepared.user_starts[-1])
    targets = places[(places > first) & _counts(prepared)]  # a target needs a history
    ends = np.searchsorted(targets, prepared.user_starts[1:])
    users = np.searchsorted(prepared.user_starts, targets, side="right") - 1
    return targets, ends[users] - np.arange(len(targets)) - 1


def _counts(prepared: Prepared) -> NDArray[np.bool_]:
    """Return which interactions (R,) a recipe counts as positive."""
    return np.ones(prepared.user_starts[-1], dtype=np.bool_) if prepared.targets is None else prepared.targets


def instances(prepared: Prepared) -> Rows:
    """Return every interaction that has a history as a query, in time order (stable)."""
    first = np.repeat(prepared.user_starts[:-1], np.diff(prepared.user_starts))
    places = np.arange(prepared.user_starts[-1])
    targets = places[(places > first) & (prepared.columns["context"] == 0) & _counts(prepared)]
    return _targets(prepared, targets[np.argsort(prepared.columns["times_ms"][targets], kind="stable")])


def impressions(prepared: Prepared) -> Rows:
    """Return every shown item as a query, in time order; the history is the user's behaviour strictly before.

    Raises:
        SplitError: the data have no impressions.
    """
    shown = prepared.impressions
    if shown is None:
        raise SplitError(f"{prepared.directory.name} has no impressions: protocol 'impressions' cannot be used")
    users, times = shown["users"], shown["times_ms"]
    behaviours = np.repeat(np.arange(len(prepared.users)), np.diff(prepared.user_starts))
    acted = prepared.columns["times_ms"]
    both = np.concatenate((acted, times))
    begin, end = int(both.min(initial=_LATEST)), int(both.max(initial=0))
    lane = end - begin + 1  # keeps users apart; the span of the log, because 5 million times the year 2026 overflow
    stops = np.searchsorted(behaviours * lane + (acted - begin), users * lane + (times - begin), side="left")
    labels = shown["labels"].astype(np.float32)
    starts, weights = prepared.user_starts[users], prepared.shown_weights
    found = [shown[f"{OUTCOME}{name}"] / np.float32(1000) for name in prepared.outcomes]
    outcomes = np.stack(found, axis=1).astype(np.float32) if found else None
    attributes = _attributes(prepared, shown, slice(None))
    return Rows(users, starts, stops.astype(np.int64), shown["items"], times, labels, weights, outcomes, attributes)


def training_mask(
    prepared: Prepared, protocol: Protocol, held: int = 1, hours: Hours | None = None
) -> NDArray[np.bool_]:
    """Return which interactions (R,) belong to training; one that is not a target does if it comes before one.

    Nothing at or after the first validation query's time belongs to it (time, impressions), or nothing that is
    validation or test of its user (leave_last_out).
    """
    if protocol == "leave_last_out":
        targets, later = _targets_and_later(prepared)
        users = np.searchsorted(prepared.user_starts, targets, side="right") - 1
        ends = prepared.user_starts[1:].copy()
        np.minimum.at(ends, users[later < 2 * held], targets[later < 2 * held])
        places = np.arange(prepared.user_starts[-1])
        return np.asarray(places < np.repeat(ends, np.diff(prepared.user_starts)), dtype=np.bool_)
    return np.asarray(prepared.columns["times_ms"] < training_end(prepared, protocol, hours), dtype=np.bool_)


def training_end(prepared: Prepared, protocol: Literal["time", "impressions"], hours: Hours | None = None) -> int:
    """Return the time of the first validation query: what happens from then on is not training, in milliseconds."""
    rows = instances(prepared) if protocol == "time" else impressions(prepared)
    train, _ = _cuts(rows.times_ms, hours)
    last = prepared.columns["times_ms"].max(initial=0)
    return int(rows.times_ms[train] if train < len(rows.times_ms) else last + 1)


def training_log(prepared: Prepared, mask: NDArray[np.bool_], *, context: bool = True) -> InteractionLog:
    """Return the interactions of a mask (R,) in time order (stable).

    Without `context`, those known as context and those that do not count as positive are left out.
    """
    mask = mask.copy()
    if not context:
        mask &= (prepared.columns["context"] == 0) & _counts(prepared)
    users = np.repeat(np.arange(1, len(prepared.users) + 1), np.diff(prepared.user_starts))
    places = np.flatnonzero(mask)
    places = places[np.argsort(prepared.columns["times_ms"][places], kind="stable")]
    return InteractionLog(users[places], prepared.columns["items"][places], prepared.columns["times_ms"][places])


def _cuts(times_ms: Places, hours: Hours | None) -> tuple[int, int]:
    """Return the first place of validation and of test, of rows in time order."""
    count = len(times_ms)
    if hours is None or not count:
        return int(count * TRAIN_SHARE), count - int(count * TEST_SHARE)
    valid_ms, test_ms = (round(one * HOUR_MS) for one in hours)
    ends = times_ms[-1] - np.array([test_ms + valid_ms, test_ms])
    train, test = np.searchsorted(times_ms, ends, side="right").tolist()
    return train, test


def flat_places(begin: Places, end: Places) -> Places:
    """Return the places of all ranges begin ... end, one after another."""
    counts = end - begin
    before = np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(np.arange(counts.sum()) - before + np.repeat(begin, counts), dtype=np.int64)


def _targets(prepared: Prepared, targets: Places) -> Rows:
    users = np.searchsorted(prepared.user_starts, targets, side="right") - 1
    columns = prepared.columns
    return Rows(
        users.astype(np.int64), prepared.user_starts[users], targets, columns["items"][targets],
        columns["times_ms"][targets], weights=None if prepared.weights is None else prepared.weights[targets],
        attributes=_attributes(prepared, columns, targets),
    )  # fmt: skip


def _attributes(prepared: Prepared, columns: dict[str, Places], chosen: Places | slice) -> Places | None:
    """Return the codes (N, A) of the attributes of chosen interactions or impressions; None if the data have none."""
    if not prepared.attributes:
        return None
    return np.stack([columns[f"{REQUEST}{name}"][chosen] for name in prepared.attributes], axis=1)
