"""Resource use from /proc: processor time and resident memory of a server with all of its workers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARK: Final = "BENCHMARK_SERVER"  # an environment variable that every process of a server inherits

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_GONE: Final = (FileNotFoundError, ProcessLookupError, PermissionError)


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor time of some processes since they started, and their memory."""

    cpu_seconds: float
    resident_bytes: int
    processes: int


def usage(pids: Iterable[int]) -> Usage:
    """Return the sum over processes; a process that has ended counts as zero."""
    cpu, pages, count = 0, 0, 0
    for pid in pids:
        with suppress(*_GONE):
            fields = _fields(pid)
            cpu += int(fields[11]) + int(fields[12])  # user and system time
            pages += int(fields[21])
            count += 1
    return Usage(cpu / _TICKS, pages * _PAGE, count)


def proportional_bytes(pids: Iterable[int]) -> int:
    """Return resident memory with each shared page divided among the processes that map it (PSS)."""
    total = 0
    for pid in pids:
        with suppress(*_GONE):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def family(root: int, mark: str) -> list[int]:
    """Return a process, its descendants, and all processes with its mark, even if their parents have ended."""
    parents = dict(_parents())
    members = {root} | {pid for pid in parents if _is_marked(pid, mark)}
    grows = True
    while grows:
        children = {pid for pid, parent in parents.items() if parent in members} - members
        members |= children
        grows = bool(children)
    return sorted(members)


def _parents() -> Iterable[tuple[int, int]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(*_GONE):
                yield int(folder.name), int(_fields(int(folder.name))[1])


def _is_marked(pid: int, mark: str) -> bool:
    with suppress(*_GONE):
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on: the second is a name that may contain blanks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
