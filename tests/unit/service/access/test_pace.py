"""Refusals at a limited rate."""

from __future__ import annotations

import asyncio

import pytest

from service.access.pace import Pace
from service.flow import turns

pytestmark = pytest.mark.anyio


async def passes(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_first_refusal_is_sent_at_once_and_the_next_ones_one_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(turns.time, "perf_counter", lambda: now)
    pace, sent = Pace(0.05), list[int]()

    async def refuse(number: int) -> None:
        await pace.wait()
        sent.append(number)

    tasks = [asyncio.create_task(refuse(number)) for number in range(3)]
    await passes()
    assert sent == [0]  # by this clock, no time passes
    now += 0.05
    async with asyncio.timeout(60):
        await tasks[1]
    assert sent == [0, 1]
    for task in tasks:
        task.cancel()


async def test_a_caller_that_has_gone_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(0.001)
    await pace.wait()
    gone = asyncio.create_task(pace.wait())
    await passes(1)
    gone.cancel()
    async with asyncio.timeout(60):
        await pace.wait()
