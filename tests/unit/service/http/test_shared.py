"""Answers that many callers ask for at once are made once."""

from __future__ import annotations

import asyncio
import threading

import pytest

from service.http.shared import Prepared, Shared

pytestmark = pytest.mark.anyio


class Counted:
    """Makes the number of times that it was asked, slowly if it is told to wait."""

    def __init__(self) -> None:
        self.times = 0
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self) -> bytes:
        self.times += 1
        made = str(self.times).encode()
        assert self.may_end.wait(10)
        return made


async def test_prepared_bytes_are_made_once() -> None:
    counted = Counted()
    prepared = Prepared(counted)
    assert set(await asyncio.gather(*[prepared.get() for _ in range(50)])) == {b"1"}
    assert await prepared.get() == b"1"


async def test_what_is_needed_first_is_awaited_before_each_making() -> None:
    counted, prepared = Counted(), list[int]()

    async def prepare() -> None:
        prepared.append(counted.times)

    shared = Shared(counted, prepare)
    assert [await shared.get(), await shared.get()] == [b"1", b"2"]
    assert prepared == [0, 1]


async def test_callers_who_wait_together_share_one_making() -> None:
    counted = Counted()
    assert set(await asyncio.gather(*[Shared(counted).get()])) == {b"1"}
    shared = Shared(Counted())
    assert set(await asyncio.gather(*[shared.get() for _ in range(50)])) == {b"1"}


async def test_no_answer_is_older_than_its_question() -> None:
    counted = Counted()
    counted.may_end.clear()
    shared = Shared(counted)
    first = asyncio.create_task(shared.get())
    while not counted.times:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    later = [asyncio.create_task(shared.get()) for _ in range(20)]
    await asyncio.sleep(0)
    counted.may_end.set()
    assert await first == b"1"
    assert set(await asyncio.gather(*later)) == {b"2"}


async def test_one_caller_after_another_always_gets_new_bytes() -> None:
    shared = Shared(Counted())
    assert [await shared.get() for _ in range(5)] == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_caller_who_gives_up_spoils_it_for_no_other() -> None:
    shared = Shared(Counted())
    first, second = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == b"1"


async def test_a_failure_reaches_its_callers_and_the_next_try_is_made() -> None:
    def fail() -> bytes:
        raise ZeroDivisionError

    shared = Shared(fail)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await shared.get()
