"""A click on the page is stored as a behaviour."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from contract.behaviours.actions import ACTION_CODES
from contract.behaviours.records import item_keys
from service.store.behaviours import AppendResult
from tests.support.served_page import JSON, Served

pytestmark = pytest.mark.anyio


async def test_a_click_is_stored_as_a_behaviour_of_now_and_counted(served: Served) -> None:
    before = time.time_ns() // 1_000_000
    answer = await served.ask("/page/click", {"user_id": "u1", "item_id": "i7"})
    [stored] = served.store.appended
    [record] = stored["u1"]
    assert record["item"] == item_keys(["i7"])[0]
    assert record["action"] == ACTION_CODES["click"]
    assert before <= record["time_ms"] == answer["ts"]
    assert served.written == [{"stored": 1, "repeated": 0, "refused": {}}]


async def test_a_click_on_a_stored_value_of_another_type_is_counted_as_refused(served: Served) -> None:
    served.store.result = AppendResult(error="wrong_type")
    assert (await served.ask("/page/click", {"user_id": "u1", "item_id": "i7"}))["stored"] == 0
    assert served.written == [{"stored": 0, "repeated": 0, "refused": {"wrong_type": 1}}]


async def test_a_click_that_cannot_be_stored_is_told(served: Served) -> None:
    served.store.is_away = True
    answer = await served.client.post("/page/click", json={"user_id": "u1", "item_id": "i7"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert served.written == []


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b'{"user_id": "u1"}', JSON, 422),
        (b'{"user_id": "u1", "item_id": ""}', JSON, 422),
        (b'{"user_id": "u1", "item_id": "i1", "ts": 1}', JSON, 422),
        (b'{"user_id": "u1", "item_id": "i1"}', {"content-type": "text/plain"}, 415),
    ],
)
async def test_a_click_that_is_wrong_or_from_another_site_stores_nothing(
    served: Served, content: bytes, headers: Mapping[str, str], status: int
) -> None:
    answer = await served.client.post("/page/click", content=content, headers=headers)
    assert answer.status_code == status
    assert served.store.appended == []
