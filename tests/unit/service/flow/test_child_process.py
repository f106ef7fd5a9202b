"""Children of a process that serves: started without a fork of all of its memory, awaited, and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from service.flow.child_process import ChildProcess

pytestmark = pytest.mark.anyio

_ECHO = (sys.executable, "-c", "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(3)")
_HANGS = (sys.executable, "-c", "import time; time.sleep(600)")

_FORKS = """
import asyncio, os, sys
import uvloop
from service.flow.child_process import ChildProcess
def forked():
    sys.stdout.write("forked\\n")
os.register_at_fork(before=forked)
async def main():
    print(await ChildProcess((sys.executable, "-c", "print(5)"), given=b"").ended())
uvloop.run(main())
"""


async def test_a_child_gets_what_is_given_and_its_answer_and_status_are_returned() -> None:
    assert await ChildProcess(_ECHO, given=b"word").ended() == (3, b"WORD")


async def test_a_child_without_input_has_no_output() -> None:
    assert await ChildProcess((sys.executable, "-c", "print(5)")).ended() == (0, b"")


async def test_several_may_wait_and_one_that_gives_up_ends_nothing() -> None:
    child = ChildProcess(_ECHO, given=b"a" * 1_000_000)  # more than a pipe has room for
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await child.ended()
    assert await asyncio.gather(child.ended(), child.ended()) == [(3, b"A" * 1_000_000)] * 2


async def test_a_child_is_ended_and_reaped_and_so_is_its_thread() -> None:
    child = ChildProcess(_HANGS, given=b"")
    await child.end()
    assert await child.ended() == (-signal.SIGKILL, b"")
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    await child.end()  # again: nothing happens
    for thread in threading.enumerate():
        if thread.name == "child":
            thread.join(10)
    assert "child" not in {thread.name for thread in threading.enumerate()}


async def test_a_child_whose_output_cannot_be_read_is_killed_and_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(subprocess.Popen, "communicate", unreadable)
    child = ChildProcess(_HANGS, given=b"")
    with pytest.raises(OSError, match=f"the output of process {child.pid} cannot be read"):
        await child.ended()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    await child.end()


async def test_a_child_inherits_only_the_descriptors_that_it_is_given() -> None:
    read, write = os.pipe()
    other = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(other, True)
    listed = "import os, sys; sys.stdout.write(' '.join(sorted(os.listdir('/proc/self/fd'))))"
    _, said = await ChildProcess((sys.executable, "-c", listed), given=b"", descriptors=(write,)).ended()
    for descriptor in (read, write, other):
        os.close(descriptor)
    assert {str(write)} == set(said.decode().split()) & {str(read), str(write), str(other)}


async def test_a_child_that_gives_way_has_the_idle_class_in_the_session_of_its_parent() -> None:
    """Linux compares sessions as wholes: in one of its own, the child would compete as an equal (ADR 0366)."""
    child, equal = ChildProcess(_HANGS, gives_way=True), ChildProcess(_HANGS)
    assert (os.sched_getscheduler(child.pid), os.sched_getscheduler(equal.pid)) == (os.SCHED_IDLE, os.SCHED_OTHER)
    assert (os.getsid(child.pid), os.getpgid(child.pid)) == (os.getsid(0), child.pid)
    await asyncio.gather(child.end(), equal.end())


async def test_a_sandbox_without_priorities_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    assert await ChildProcess(_ECHO, given=b"word", gives_way=True).ended() == (3, b"WORD")


async def test_a_program_that_is_missing_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        ChildProcess(("/nowhere/program",))


def test_the_memory_of_the_process_is_not_copied() -> None:
    """A fork would run what is registered for forks; uvloop's own start of a process does."""
    done = subprocess.run([sys.executable, "-c", _FORKS], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "(0, b'5\\n')\n"
