"""The page shows users and their history."""

from __future__ import annotations

import numpy as np
import pytest

from contract.behaviours.records import RECORD
from service.page.comparison import MAX_BEHAVIOURS, MAX_USERS
from service.store.behaviours import StoredBehaviours
from tests.support.builders import behaviours
from tests.support.served_page import MARKUP, Served

pytestmark = pytest.mark.anyio


async def test_users_come_from_the_vocabulary_bounded_and_by_prefix(served: Served) -> None:
    everybody = (await served.get("/page/users"))["users"]
    assert everybody[:2] == ["u1", "u2"]
    assert len(everybody) == MAX_USERS
    assert (await served.get("/page/users", prefix="u29"))["users"] == ["u29", *(f"u29{digit}" for digit in range(10))]


async def test_without_a_model_that_reads_users_they_come_from_the_store(served: Served) -> None:
    served.bundles = served.bundles[1:]
    assert await served.get("/page/users") == {"users": [], "source": "store"}
    served.store.users = dict.fromkeys([f"s{place}" for place in range(300)], StoredBehaviours(behaviours(["i1"])))
    found = await served.get("/page/users")
    assert (found["source"], len(found["users"])) == ("store", MAX_USERS)
    assert (await served.get("/page/users", prefix="s299"))["users"] == ["s299"]


async def test_a_store_that_is_away_is_told_apart_from_one_without_users(served: Served) -> None:
    served.bundles, served.store.is_away = served.bundles[1:], True
    assert await served.get("/page/users") == {"users": [], "source": "unavailable"}


async def test_history_is_newest_first_with_titles_as_plain_text(served: Served) -> None:
    records = behaviours(["i1", "i2", "i3", "i39", "no-such"], times_ms=[50, 40, 30, 20, 60], action="rate")
    served.store.users["<u>"] = StoredBehaviours(records, corrupt=2, truncated=True)
    past = await served.ask("/page/history", {"user_id": "<u>"})
    assert (past["status"], past["corrupt"], past["count"], past["truncated"]) == ("ok", 2, 5, True)
    titles = [one["title"] for one in past["behaviours"]]
    assert titles[0].startswith("unknown item ")
    assert titles[1:] == [MARKUP, "i2", "?", "Film i39"]
    assert past["behaviours"][1] == {
        "item_id": "i1", "title": MARKUP, "details": "<b>Drama</b>, War", "ts": 50, "action": "rate", "value": 0.0,
        "play_ms": 0,
    }  # fmt: skip


async def test_history_is_bounded(served: Served) -> None:
    served.store.users["u1"] = StoredBehaviours(behaviours(["i1"] * (MAX_BEHAVIOURS + 7)))
    past = await served.ask("/page/history", {"user_id": "u1"})
    assert len(past["behaviours"]) == MAX_BEHAVIOURS
    assert past["count"] == MAX_BEHAVIOURS + 7


async def test_store_that_is_away_is_said_and_no_error(served: Served) -> None:
    served.store.users["u1"] = StoredBehaviours(np.zeros(0, dtype=RECORD), status="unavailable")
    assert (await served.ask("/page/history", {"user_id": "u1"}))["status"] == "unavailable"
    assert len((await served.ask("/page/compare", {"user_id": "u1", "count": 5}))["rankings"]) == 2
