"""A process that drains goes on accepting while callers still ask, within its limit."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from itertools import count

import pytest

from service.process import stopping
from service.process.handover import READY, take_over
from service.process.stopping import Stopping

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_QUIET_SECONDS", 0.001)


def stopped(
    asked: Iterator[float], longer_seconds: float, number: int = signal.SIGTERM, delay_seconds: float = 0.001
) -> Stopping:
    one = Stopping(delay_seconds, lambda: None, asked=lambda: next(asked), longer_seconds=longer_seconds)
    one.note(number)
    one.tell()
    return one


@pytest.mark.parametrize("delay_seconds", [0.0, 0.001])
async def test_it_waits_until_no_request_has_come_for_a_while(delay_seconds: float) -> None:
    asked = iter([1.0, 2.0, 2.0, 3.0, 4.0, 4.0])  # before and after each wait; the third wait is a quiet one
    await stopped(asked, 600.0, delay_seconds=delay_seconds).wait()
    assert list(asked) == []


async def test_it_does_not_wait_longer_than_its_limit() -> None:
    await asyncio.wait_for(stopped(map(float, count()), 0.05).wait(), 60)


@pytest.mark.parametrize(("longer", "number"), [(0.0, signal.SIGTERM), (600.0, signal.SIGINT)])
async def test_without_the_setting_and_after_an_interrupt_no_one_is_counted(longer: float, number: int) -> None:
    def never() -> Iterator[float]:
        raise AssertionError("asked")
        yield 0.0

    await stopped(never(), longer, number).wait()


async def test_a_second_signal_ends_the_waiting() -> None:
    one = stopped(map(float, count()), 600.0)
    waiting = asyncio.create_task(one.wait())
    await asyncio.sleep(0)
    one.note(signal.SIGTERM)
    one.tell()
    await asyncio.wait_for(waiting, 60)


async def test_a_successor_that_comes_meanwhile_is_waited_for_although_no_one_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stopping, "_QUIET_SECONDS", 600.0)
    counted = asyncio.Event()

    def asked() -> float:
        counted.set()
        return 0.0

    one = Stopping(0.001, lambda: one.tell(), asked=asked, longer_seconds=600.0)
    one.note(signal.SIGTERM)
    one.tell()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one.open_door(listener, is_stopping=lambda: True)
        waiting = asyncio.create_task(one.wait())
        await asyncio.wait_for(counted.wait(), 60)
        taken = await asyncio.to_thread(take_over, listener.getsockname(), replaces=False)
        assert taken is not None
        with taken[0], taken[1]:
            for _ in range(20):  # more turns of the loop than it takes to hear of the successor
                await asyncio.sleep(0)
            assert (one.is_loading_successor, waiting.done()) == (True, False)
            taken[1].send(READY)
            await asyncio.wait_for(waiting, 60)
        one.close_door()
    assert one.is_succeeded
