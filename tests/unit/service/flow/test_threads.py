"""Calls that hang: every wait for them ends, and so does the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from service.flow.short_turns import short_turns
from service.flow.threads import DaemonThreads, Detached, in_time

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[4]

# Hangs in two threads at once, then reaches its end.
_HANGS = """
import threading
from service.flow.threads import DaemonThreads
threads, began = DaemonThreads(2, "hung"), threading.Barrier(3)
def hang():
    began.wait()
    threading.Event().wait()
for _ in range(3):
    threads.submit(hang)
began.wait()
threads.shutdown()
print("end")
"""


def test_a_process_ends_though_its_threads_hang() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HANGS], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "end\n"


async def test_calls_are_answered_with_their_value_or_their_error() -> None:
    threads = DaemonThreads(2, "test")
    assert await in_time(threads, 60, pow, 2, 10) == 1024
    with pytest.raises(ZeroDivisionError):
        await in_time(threads, 10, divmod, 1, 0)
    assert await asyncio.gather(*(in_time(threads, 10, abs, -number) for number in range(20))) == list(range(20))
    threads.shutdown()


async def test_a_call_that_hangs_is_given_up_and_so_are_those_behind_it() -> None:
    threads, began, gate, ran = DaemonThreads(1, "test"), threading.Event(), threading.Event(), list[int]()
    with pytest.raises(TimeoutError):
        await in_time(threads, 0.3, lambda: (began.set(), gate.wait()))  # a call that has not begun is not run at all
    assert began.is_set()
    with pytest.raises(TimeoutError):
        await in_time(threads, 0.01, ran.append, 1)
    gate.set()
    assert await in_time(threads, 10, abs, -5) == 5
    assert ran == []  # work that is no longer awaited is not run
    threads.shutdown()


@pytest.mark.parametrize("turns", range(4))
async def test_a_cancellation_that_comes_with_the_result_is_not_lost(turns: int) -> None:
    """A loop that misses it would never end."""
    threads, gate = DaemonThreads(1, "test"), threading.Event()
    waiting = asyncio.create_task(in_time(threads, 60, gate.wait))
    await asyncio.sleep(0)
    gate.set()
    threads.submit(int).result(60)  # behind it in the same thread: the result is there, and on its way to the loop
    for _ in range(turns):
        await asyncio.sleep(0)
    if waiting.cancel():
        with pytest.raises(asyncio.CancelledError):
            await waiting
    threads.shutdown()


async def test_threads_that_are_shut_down_take_no_more_calls() -> None:
    threads, began, gate = DaemonThreads(1, "test"), threading.Event(), threading.Event()

    def wait() -> bool:
        began.set()
        return gate.wait(10)

    first, second = threads.submit(wait), threads.submit(abs, -1)
    assert began.wait(10)
    threads.shutdown()
    with pytest.raises(RuntimeError):
        threads.submit(abs, -1)
    gate.set()
    assert first.result(10)
    with pytest.raises(CancelledError):
        second.result(10)


async def test_a_detached_call_has_the_thread_of_the_one_before() -> None:
    detached = Detached("test-detached")
    assert len({await detached.run(threading.get_ident, 60) for _ in range(5)}) == 1
    with pytest.raises(ZeroDivisionError):
        await detached.run(lambda: 1 // 0, 60)
    assert await detached.run(lambda: 5, 60) == 5


async def test_a_detached_call_that_hangs_blocks_one_thread_and_nothing_queues_behind_it() -> None:
    detached, gate, ran = Detached("test-hung"), threading.Event(), list[int]()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await detached.run(gate.wait, 0.05)
    with pytest.raises(TimeoutError):
        await detached.run(lambda: ran.append(1), 0.05)
    assert [thread.name for thread in threading.enumerate()].count("test-hung-0") == 1
    gate.set()
    await detached.run(lambda: ran.append(2), 60)
    assert ran == [2]


async def test_the_thread_of_detached_calls_ends_with_their_owner() -> None:
    detached = Detached("test-owned")
    await detached.run(int, 60)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "test-owned-0"]
    del detached
    thread.join(60)
    assert not thread.is_alive()


@pytest.fixture
def usual_turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a new process: an earlier test may have left a thread in a block, with a call that never returns."""
    interval = sys.getswitchinterval()
    monkeypatch.setattr("service.flow.short_turns._before", [])
    sys.setswitchinterval(0.005)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("usual_turns")
async def test_detached_work_lets_the_event_loop_take_its_turn_soon() -> None:
    usual = sys.getswitchinterval()
    assert await Detached("test-turns").run(sys.getswitchinterval, 60) < usual / 5
    assert sys.getswitchinterval() == usual


@pytest.mark.usefixtures("usual_turns")
def test_short_turns_end_with_the_last_block() -> None:
    usual = sys.getswitchinterval()
    first, second = short_turns(), short_turns()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert sys.getswitchinterval() < usual / 5
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == usual
