"""Processes as Linux shows them."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count, islice
from pathlib import Path


def children(pid: int) -> list[int]:
    """Return the children that the main thread of a process has; none if it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def name_of(pid: int) -> str:
    """Return the short name of a process; none if it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def is_fork_server(pid: int) -> bool:
    """Return whether a process is one of service/inference/fork_server.py, and no proof."""
    return name_of(pid) == "ranker-proofs"


def threads_of(pid: int) -> list[int]:
    """Return the threads of a process."""
    return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]


def run_first(threads: Iterable[int]) -> bool:
    """Let threads run before all others that are not real-time; False if this user may not do that."""
    try:
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    return True


def is_alive(pid: int) -> bool:
    """Return whether a process runs: one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def open_files(pid: int) -> dict[int, str]:
    """Return what the descriptors of a process refer to, but for that of a look by the process itself."""
    found = {}
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[int(one.name)] = str(one.readlink())
    return found


@contextmanager
def few_files(pid: int, more: int = 0) -> Iterator[None]:
    """Let a process open only so many more files than it has; those of a hole between others count."""
    opened = set(open_files(pid))
    free = (number for number in count() if number not in opened)
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (next(islice(free, more, None)), limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
