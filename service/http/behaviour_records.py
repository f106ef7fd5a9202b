"""Behaviours of a body to records, and stored records to the body of an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson

from contract.behaviours.actions import ACTION_CODES, ACTIONS, DEFAULT_ACTION
from contract.behaviours.records import Records, item_keys, records_from_columns
from contract.bundle.vocabulary import Vocabulary
from service.http import requests
from service.store.behaviours import StoredBehaviours

_DEFAULT_CODE: Final = ACTION_CODES[DEFAULT_ACTION]
_NOTHING: Final = records_from_columns(
    np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint8),
    np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float64),
)  # fmt: skip


def records_of(behaviours: Sequence[Mapping[str, Any]]) -> Records:
    """Return the records of behaviours, in their order; Any: validated as requests.Behaviour."""
    if not behaviours:
        return _NOTHING
    return records_from_columns(
        item_keys([behaviour["item_id"] for behaviour in behaviours]),
        np.array([behaviour["ts"] for behaviour in behaviours], dtype=np.int64),
        np.array([_code(behaviour) for behaviour in behaviours], dtype=np.uint8),
        np.array([behaviour.get("play_ms", 0) for behaviour in behaviours], dtype=np.int64),
        np.array([behaviour.get("value", 0) for behaviour in behaviours], dtype=np.float64),
    )


def records_by_user(behaviours: Sequence[requests.UserBehaviour]) -> dict[str, tuple[list[int], Records]]:
    """Group behaviours by user: their positions in the request and their records, in request order."""
    records = records_of(behaviours)
    places: dict[str, list[int]] = {}
    for place, behaviour in enumerate(behaviours):
        places.setdefault(behaviour["user_id"], []).append(place)
    return {user_id: (own, records[own]) for user_id, own in places.items()}


def stored_body(user_id: str, stored: StoredBehaviours, vocabularies: Sequence[Vocabulary]) -> bytes:
    """Return a user's stored behaviours, as answers.StoredBehavioursResponse describes them."""
    records = stored.records[::-1]
    names: list[str | None] = [None] * len(records)
    for vocabulary in vocabularies:
        indices = vocabulary.indices_of_keys(records["item"]).tolist()
        names = [vocabulary.ids[index - 1] if index else name for index, name in zip(indices, names, strict=True)]
    behaviours = [
        {
            "item_key": f"{key:016x}", "item_id": name, "ts": ts, "action": ACTIONS[action - 1],
            "play_ms": play_ms, "value": value / 10,
        }
        for name, (key, ts, play_ms, action, value, _) in zip(names, records.tolist(), strict=True)
    ]  # fmt: skip
    return orjson.dumps({
        "user_id": user_id, "status": stored.status, "corrupt": stored.corrupt, "truncated": stored.truncated,
        "behaviours": behaviours,
    })  # fmt: skip


def _code(behaviour: Mapping[str, Any]) -> int:
    action = behaviour.get("action")
    return _DEFAULT_CODE if action is None else ACTION_CODES[action]
