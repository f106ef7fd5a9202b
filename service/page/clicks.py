"""A click of a visitor: one behaviour of now, stored like those of `POST /behaviours`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from service.errors import StoreDown
from service.http.behaviour_records import records_of
from service.store.behaviours import RedisBehaviourStore, StoreUnavailable


async def click(store: RedisBehaviourStore, count: Callable[..., None], user_id: str, item_id: str) -> dict[str, Any]:
    """Store that a user clicked an item now; return the click, and how many behaviours were stored.

    Args:
        store: where it is stored.
        count: the metric of stored behaviours.
        user_id: the user.
        item_id: any item, known to a model or not.

    Raises:
        StoreDown: the store accepted nothing.
    """
    behaviour = {"item_id": item_id, "ts": time.time_ns() // 1_000_000, "action": "click"}
    try:
        results = await store.append({user_id: records_of([behaviour])})
    except StoreUnavailable as error:
        raise StoreDown from error
    result = results[user_id]
    if result.error == "unavailable":
        raise StoreDown
    refused = {"wrong_type": 1} if result.error else {}
    count(stored=result.stored, repeated=result.repeated, refused=refused)
    return {"user_id": user_id, **behaviour, "stored": result.stored}
