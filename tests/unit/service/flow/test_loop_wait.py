from __future__ import annotations

import asyncio
import time

import pytest

from service.flow.loop_wait import LoopWait

pytestmark = pytest.mark.anyio


async def sampled(work_seconds: float, samples: int = 3) -> list[float]:
    """The samples of a loop in which each pass takes that long."""
    found: list[float] = []
    wait = LoopWait(found.append)
    try:
        async with asyncio.timeout(60):
            while len(found) < samples:
                time.sleep(work_seconds)  # noqa: ASYNC251 - it is the work of a busy loop
                await asyncio.sleep(0)
    finally:
        wait.stop()
    return found


async def test_a_busy_loop_is_seen_by_how_long_its_passes_take() -> None:
    assert min(await sampled(0.02)) >= 0.02


async def test_no_sample_is_taken_after_the_stop() -> None:
    found: list[float] = []
    LoopWait(found.append).stop()
    await asyncio.sleep(0.12)
    assert not found
