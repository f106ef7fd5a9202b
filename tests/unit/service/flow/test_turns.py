"""Other work takes turns on the event loop while rankings run."""

from __future__ import annotations

import asyncio

import pytest

from service.flow.turns import Turns

pytestmark = pytest.mark.anyio


async def test_a_turn_is_free_where_no_other_work_waits() -> None:
    with pytest.raises(StopIteration):  # at the first step, without a pass of the loop
        Turns(lambda: False).take().send(None)


async def test_one_piece_of_work_is_done_in_each_pass_of_the_loop_and_in_order() -> None:
    turns, done, passes = Turns(lambda: False), list[int](), 0

    async def work(number: int) -> None:
        await turns.take()
        done.append(number)

    tasks = [asyncio.create_task(work(number)) for number in range(20)]
    while len(done) < 20:
        before = len(done)
        await asyncio.sleep(0)
        passes += 1
        assert len(done) <= before + 1
    assert done == list(range(20))
    await asyncio.gather(*tasks)


async def test_while_rankings_run_other_work_leaves_them_three_quarters_of_the_time() -> None:
    turns, loop = Turns(lambda: True), asyncio.get_running_loop()
    began = loop.time()
    for _ in range(3):
        await turns.take()
        turns.charge(0.01)
    await turns.take()
    assert loop.time() - began >= 3 * 3 * 0.01 - 0.01


async def test_without_rankings_other_work_does_not_wait() -> None:
    turns = Turns(lambda: False)
    turns.charge(1_000)
    await asyncio.wait_for(turns.take(), 60)


async def test_a_piece_that_mostly_waited_is_not_charged_for_all_of_it() -> None:
    turns = Turns(lambda: True)
    turns.charge(1_000)
    await asyncio.wait_for(turns.take(), 60)


async def test_a_caller_who_gives_up_does_not_lose_the_turn_of_the_next() -> None:
    turns = Turns(lambda: False)
    await turns.take()
    first, second = asyncio.create_task(turns.take()), asyncio.create_task(turns.take())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, 60)


def test_turns_outlive_a_loop() -> None:
    turns = Turns(lambda: False)
    for _ in range(2):
        asyncio.run(turns.take())
