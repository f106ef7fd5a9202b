"""Which rows remain, decided in memory: for sources that fit. `keep_large.py` decides the same on disk.

Symbols: R rows of the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.actions import ACTION_CODES
from contract.behaviours.records import records_from_columns, repeats
from contract.bundle.tensors import POSITIVE_ACTIONS
from contract.progress import Progress
from training.data.answers import answered
from training.data.attributes import Numbering
from training.data.datasets.interactions import DataError, Impressions, Interactions
from training.data.files.coded_ids import CodedIds, Codes
from training.data.kept import OUTCOME, REQUEST, Column, Columns, Kept, codes_of, distinct, with_new
from training.data.known import Known
from training.data.plausibility import dropped_rows

POSITIVE: tuple[int, ...] = tuple(ACTION_CODES[action] for action in POSITIVE_ACTIONS)
IMPRESSION = ACTION_CODES["impression"]
_STEPS = 4  # of the progress


class _Coded(NamedTuple):
    """The ids of a source by code, and the codes of its rows."""

    user_names: list[str]
    users: Codes
    item_names: list[str]
    items: Codes


def keep(raw: Interactions, core: int, known: Known) -> Kept:
    """Drop repeats, then actions that are not trained on, then rows below the core; order the rest.

    Raises:
        DataError: nothing is left.
    """
    with Progress("ordering", _STEPS) as progress:
        return _keep(raw, core, known, progress)


def _keep(raw: Interactions, core: int, known: Known, progress: Progress) -> Kept:
    coded = _Coded(*codes_of(raw.users), *codes_of(raw.items))
    progress.advance(1, "ids numbered")
    first = np.flatnonzero(~_repeats(raw, coded))
    progress.advance(1, "repeats dropped")
    taken = first[np.isin(raw.actions[first], POSITIVE)]
    shown = _impressions(raw, coded, first, taken)
    progress.advance(1, "impressions labelled")
    as_shown = 0 if shown is None or raw.impressions is not None else len(shown.times_ms)
    rows = taken[core_filter(coded.users[taken], coded.items[taken], core)]
    if not len(rows):
        raise DataError(f"{raw.source}: no user and item has {core} interactions; try a smaller --core")
    used_users, used_items = np.unique(coded.users[rows]), np.unique(coded.items[rows])
    user_ids, user_place = with_new(coded.user_names, used_users, known.users)
    item_ids, item_place = with_new(coded.item_names, used_items, known.items)
    if core <= 1 and shown is not None:  # without a filter, every user with an impression is a user
        user_ids = list(dict.fromkeys((*user_ids, *distinct(shown.users))))
        item_ids = list(dict.fromkeys((*item_ids, *distinct(shown.items))))
    numbered = {name: one.values.numbered(known.attributes.get(name, ())) for name, one in raw.attributes.items()}
    ordered = _ordered(raw, rows, user_place[coded.users], item_place[coded.items], numbered)
    impressions = None if shown is None else shown_columns(shown, user_ids, item_ids, numbered)
    progress.advance(1, "ordered")
    dropped = dropped_rows(
        raw.read,
        repeats=len(raw.users) - len(first),
        impressions=as_shown,
        actions=len(first) - len(taken) - as_shown,
        core=len(taken) - len(rows),
    )
    shown_batches = None if impressions is None else lambda: iter((impressions,))
    outcomes = () if impressions is None else tuple(name for name in impressions if name.startswith(OUTCOME))
    texts = {name: one.texts for name, one in numbered.items()}
    return Kept(user_ids, item_ids, dropped, lambda: iter((ordered,)), shown_batches, outcomes, texts)


def core_filter(users: NDArray[np.integer], items: NDArray[np.integer], core: int) -> NDArray[np.bool_]:
    """Return which interactions remain when every user and item must have `core` of them, repeated until stable."""
    kept = np.ones(len(users), dtype=np.bool_)
    while True:
        by_user = np.bincount(users[kept], minlength=users.max(initial=0) + 1)
        by_item = np.bincount(items[kept], minlength=items.max(initial=0) + 1)
        enough = kept & (by_user[users] >= core) & (by_item[items] >= core)
        if bool((enough == kept).all()):
            return kept
        kept = enough


def _ordered(
    raw: Interactions, rows: Column, user_place: Column, item_place: Column, numbered: dict[str, Numbering]
) -> Columns:
    """Return the rows by user and time; at equal times context comes first, then the order of the source."""
    context = np.zeros(len(raw.users), dtype=np.bool_) if raw.context is None else raw.context
    rows = rows[np.lexsort((rows, ~context[rows], raw.times_ms[rows], user_place[rows]))]
    return {
        "users": user_place[rows],
        "items": item_place[rows] + 1,
        "times_ms": raw.times_ms[rows],
        "actions": raw.actions[rows].astype(np.int64),
        "values": raw.values[rows].astype(np.int64),
        "plays": raw.plays_ms[rows].astype(np.int64),
        "context": context[rows].astype(np.int64),
        **{f"{REQUEST}{name}": one.codes(raw.attributes[name].codes[rows]) for name, one in numbered.items()},
    }


def _impressions(raw: Interactions, coded: _Coded, first: Column, taken: Column) -> Impressions | None:
    """Return the impressions of the source, or its rows of that action, labelled by the actions that follow them."""
    if raw.impressions is not None or raw.window_ms is None:
        return raw.impressions
    shown = first[raw.actions[first] == IMPRESSION]
    if not len(shown):
        return None
    pairs = coded.users.astype(np.int64) * len(coded.item_names) + coded.items
    times = raw.times_ms
    labels = answered(pairs[shown], times[shown], pairs[taken], times[taken], raw.window_ms)
    users, items = CodedIds(coded.user_names, coded.users[shown]), CodedIds(coded.item_names, coded.items[shown])
    attributes = {name: one.codes[shown] for name, one in raw.attributes.items()}
    return Impressions(users, items, times[shown], labels, attributes=attributes)


def shown_columns(
    raw: Impressions, user_ids: list[str], item_ids: list[str], numbered: dict[str, Numbering] | None = None
) -> Columns:
    """Return the impressions of users and items that remain, in the order of time, ties by that of the source."""
    users, items = _places(raw.users, user_ids), _places(raw.items, item_ids) + 1
    kept = np.flatnonzero((users >= 0) & (items > 0))
    kept = kept[np.argsort(raw.times_ms[kept], kind="stable")]
    columns = {"users": users, "items": items, "times_ms": raw.times_ms, "labels": raw.labels}
    columns |= {f"{OUTCOME}{name}": values for name, values in raw.outcomes.items()}
    columns |= {f"{REQUEST}{name}": one.codes(raw.attributes[name]) for name, one in (numbered or {}).items()}
    return {name: values[kept] for name, values in columns.items()}


def _places(ids: Sequence[str], among: list[str]) -> Column:
    """Return the place of each id, -1 if it has none."""
    names, codes = codes_of(ids)
    place = {name: place for place, name in enumerate(among)}
    return np.fromiter((place.get(name, -1) for name in names), dtype=np.int64, count=len(names))[codes]


def _repeats(raw: Interactions, coded: _Coded) -> NDArray[np.bool_]:
    """Return which rows the store would drop as repeats of an earlier one: the item's code represents its key."""
    records = records_from_columns(
        coded.items.astype(np.uint64),
        raw.times_ms,
        raw.actions.astype(np.uint8),
        raw.plays_ms.astype(np.int64, copy=False),
        raw.values / 10,
    )
    return repeats(coded.users.astype(np.int64), records)
