"""New items of a ranking, among its candidates and in the user's history, and the features that describe them.

Features are those of the request, or those stored (service/store/items.py). Items that this process has never read are
read before the ranking goes on, if its deadline allows: all waiting rankings share one round trip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Final

import numpy as np

from contract.behaviours.records import Records, item_keys
from service.bundles.bundle import Bundle
from service.flow.batcher import Batcher
from service.inference.inputs import Notes
from service.inference.new_items import NewItem
from service.metrics import Metrics
from service.ranking.call import RankCall, Wanted
from service.ranking.described import described, without_rules
from service.store.items import ItemStore

_AT_ONCE: Final = 64  # rankings that share a round trip

Features = Mapping[int, Mapping[str, object]]
"""Raw features by item key."""


class StoredFeatures:
    """Adds new items that have features to the model's inputs.

    Args:
        items: stored features; None: only those of requests.
        go_on: continues rankings that have waited.
        observer: counts.
        most: maximum rankings that wait.
        concurrency: round trips at once.
    """

    def __init__(
        self,
        items: ItemStore | None,
        go_on: Callable[[Sequence[RankCall], Sequence[Exception | None]], None],
        observer: Metrics,
        *,
        most: int,
        concurrency: int,
    ) -> None:
        self._items, self._observer = items, observer

        async def read(calls: list[RankCall]) -> list[None]:
            if items is not None:
                await items.read(key for call in calls for key in call.wanted.keys)
            return [None] * len(calls)

        self.reads: Batcher[RankCall, None] = Batcher(
            read, go_on, max_queue=most, max_rows=_AT_ONCE, max_cost=1 << 62, name="items", observer=observer,
            concurrency=concurrency,
        )  # fmt: skip

    def must_wait(self, call: RankCall) -> bool:
        """Note the call's new items; return whether there are some that this process has never read."""
        call.wanted = self._wanted(call)
        keys = call.wanted.keys
        return bool(keys) and self._items is not None and call.stored.status == "ok" and bool(self._items.missing(keys))

    def use(self, call: RankCall, others: Set[str]) -> None:
        """Add the new items that have features to the inputs; features of the request come first.

        Args:
            call: `must_wait` has noted its items.
            others: features that rules read.
        """
        bundle, wanted = call.serving.bundle, call.wanted
        if not (wanted.candidates or wanted.behaviours):
            return
        known: Features = {} if self._items is None else self._items.by_key(wanted.keys)
        if call.features:
            known = {**known, **_by_key(call.features)}
        by_id = {item_id: known[key] for item_id, key in wanted.candidates.items() if key in known}
        call.described = new = described(bundle, call.candidates, by_id, others)
        if new is not None:
            call.row = call.row._replace(new=new.items)
            call.cost += len(new.items)
        met = {
            key: item for key in wanted.behaviours if key in known and (item := _new_item(bundle, known[key], others))
        }
        if met:
            call.row = call.row._replace(met=met)

    def _wanted(self, call: RankCall) -> Wanted:
        """Return the new items of a call whose bundle can describe them."""
        unknown = [call.candidates.item_ids[place] for place in call.candidates.unknown]
        keys = [] if not unknown else _keys_of(unknown) if self._items is None else self._items.keys_of(unknown)
        return Wanted(
            dict(zip(unknown, keys, strict=True)), _noted(call.serving.bundle, call.row.records, call.row.notes)
        )


def _noted(bundle: Bundle, records: Records, notes: Notes | None) -> Sequence[int]:
    """Return the keys of unknown behaviours; the same records are searched once."""
    if notes is None:
        return unknown_behaviours(bundle, records)
    name = ("unknown", bundle.digest)
    if name not in notes:
        notes[name] = unknown_behaviours(bundle, records)
    found: Sequence[int] = notes[name]
    return found


def unknown_behaviours(bundle: Bundle, records: Records) -> Sequence[int]:
    """Return the item keys of the newest behaviours whose action the model reads and whose item it does not know."""
    sequence = bundle.manifest.sequence
    keys = records["item"][np.isin(records["action"], sequence.action_codes)][-sequence.length :]
    unknown = keys[bundle.items.indices_of_keys(keys) == 0] if len(keys) else keys
    return tuple(dict.fromkeys(unknown.tolist()))


def _by_key(features: Mapping[str, Mapping[str, object]]) -> Features:
    return dict(zip(_keys_of(features), features.values(), strict=True))


def _keys_of(item_ids: Iterable[str]) -> list[int]:
    keys: list[int] = item_keys(item_ids).tolist()
    return keys


def _new_item(bundle: Bundle, features: Mapping[str, object], others: Set[str]) -> NewItem | None:
    """Return an item by its features; None if only rules read them."""
    assert bundle.new_items is not None
    coder = bundle.new_items.coder
    read = without_rules(features, others, coder) if others else features
    if features and not read:
        return None
    return NewItem.of(coder.usable_codes(read)[0].values())
