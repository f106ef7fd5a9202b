"""A child of a process that serves: it slows no answer of its parent.

- Its start does not stop the event loop. uvloop forks, which copies the page tables and stops the event loop for as
  long: 14 ms in a process with 300 MiB. `subprocess` shares the memory until the child has begun (vfork): 2 to 3 ms in
  a process of any size (ADR 0365).
- It can give way: it then only runs on a core that no other process of the container wants (ADR 0366).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Final

from service.flow.threads import fulfil

_ROOT: Final = Path(__file__).parents[2]  # where `service` can be imported from
REAP_SECONDS: Final = 1.0  # for a killed process to be gone; one that waits for a dead mount may stay longer


class ChildProcess:
    """A process with a process group of its own; what it writes to standard error is dropped.

    Args:
        command: the program and its arguments.
        given: for its standard input; without it, its standard output is dropped too.
        descriptors: that it inherits.
        gives_way: whether it only gets processor time that nothing else wants, where the system supports it.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        given: bytes | None = None,
        descriptors: Sequence[int] = (),
        gives_way: bool = False,
    ) -> None:
        stream = subprocess.DEVNULL if given is None else subprocess.PIPE
        self._process = subprocess.Popen(
            command, cwd=_ROOT, stdin=stream, stdout=stream, stderr=subprocess.DEVNULL, pass_fds=descriptors,
            process_group=0,  # no session: outside containers, Linux lets sessions compete as if they were equal
        )  # fmt: skip
        self.pid = self._process.pid
        if gives_way:
            give_way(self.pid)
        self._ended: Future[bytes] = Future()
        self._ended.set_running_or_notify_cancel()  # a caller who gives up ends no process
        Thread(target=fulfil, args=(self._ended, lambda: self._output(given)), name="child", daemon=True).start()

    async def ended(self) -> tuple[int, bytes]:
        """Wait until it has ended; return its status, minus a signal's number, and its standard output.

        Raises:
            OSError: its output cannot be read; it was killed.
        """
        said = await asyncio.wrap_future(self._ended)
        return self._process.returncode, said

    async def end(self) -> None:
        """Kill it, if it runs."""
        if not self._ended.done():
            self._process.kill()
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(REAP_SECONDS):
                    await asyncio.wrap_future(self._ended)

    def _output(self, given: bytes | None) -> bytes:
        with self._process:  # closes its pipes, and reaps it
            try:
                said, _ = self._process.communicate(given)
            except (OSError, MemoryError) as error:
                self._process.kill()
                raise OSError(f"the output of process {self.pid} cannot be read") from error
        return said or b""


def give_way(pid: int) -> None:
    """Let a process, or this thread (0), only run on a core that nothing else wants; it can never take that back."""
    if hasattr(os, "sched_setscheduler"):  # Linux
        with suppress(OSError):  # it has ended, or a sandbox forbids it
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
