"""Behaviours and feedback have gates of their own; large requests are worked on piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import structlog

from contract.behaviours.records import Records
from service.flow.turns import Turns
from service.settings.limits import LimitsSettings
from service.settings.root import Settings
from service.store.behaviours import AppendResult
from tests.support.fakes import NOW_MS, Edge

pytestmark = pytest.mark.anyio

RANKING = {"user_id": "u1", "candidates": ["i1"]}


def behaviours(users: int = 1) -> dict[str, Any]:
    return {"behaviours": [{"user_id": f"u{n}", "item_id": "i1", "ts": NOW_MS} for n in range(users)]}


class HeldStore:
    """Appends only when it may."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.may_go_on = asyncio.Event()

    async def append(self, users: Mapping[str, Records]) -> dict[str, AppendResult]:
        self.asked.append(len(users))
        await self.may_go_on.wait()
        return {user: AppendResult(stored=len(records)) for user, records in users.items()}


def held(edge: Edge) -> HeldStore:
    store = HeldStore()
    edge.runtime.backend = replace(edge.runtime.needed(), store=store)  # type: ignore[arg-type]  # appends only
    return store


async def test_behaviours_too_many_are_refused_unread_and_no_other_route_notices() -> None:
    edge = Edge(Settings(limits=LimitsSettings(max_writes=2)))
    store = held(edge)
    async with edge.client() as client:
        inside = [asyncio.create_task(client.post("/behaviours", json=behaviours())) for _ in range(2)]
        while len(store.asked) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        with structlog.testing.capture_logs() as lines:
            refused = await client.post("/behaviours", json=behaviours())
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert lines == []  # counted, not logged: a flood must not fill the log
        assert (await client.post("/rank", json=RANKING)).status_code == 200
        event = {"user_id": "u", "item_id": "i", "action": "play"}
        assert (await client.post("/feedback", json={"feedback": [event]})).status_code == 202
        store.may_go_on.set()
        assert [(await one).status_code for one in inside] == [200, 200]
        assert (await client.post("/behaviours", json=behaviours())).status_code == 200
    counts = edge.samples("ranker_requests_total")
    assert counts['{route="/behaviours",status="429",variant="none"}'] == 1
    assert edge.samples("ranker_rejected_total")['{reason="overloaded"}'] == 0  # those are rankings


async def test_a_request_for_many_users_is_appended_some_at_a_time() -> None:
    edge = Edge()
    store = held(edge)
    store.may_go_on.set()
    async with edge.client() as client:
        answer = await client.post("/behaviours", json=behaviours(1_000))
    assert answer.json()["stored"] == 1_000
    assert sum(store.asked) == 1_000
    assert max(store.asked) <= 64


async def test_a_refused_ranking_waits_for_its_turn_outside_the_gate() -> None:
    edge = Edge(Settings(limits=LimitsSettings(max_inflight=1)))
    edge.runtime.admission.turns = never = Turns(lambda: True)
    never.charge(1_000)
    await never.take()
    async with edge.client() as client:
        waiting = [asyncio.create_task(client.post("/rank", json={"user_id": "u1"})) for _ in range(4)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert (await client.post("/rank", json=RANKING)).status_code == 200
        assert [(await one).status_code for one in waiting] == [422] * 4


async def test_health_checks_do_not_wait_for_other_routes() -> None:
    edge = Edge()
    edge.runtime.admission.turns = never = Turns(lambda: True)
    never.charge(1_000)
    await never.take()
    async with edge.client() as client:
        behind = asyncio.create_task(client.get("/info"))
        for _ in range(10):
            assert (await client.get("/health/live")).status_code == 200
        behind.cancel()
