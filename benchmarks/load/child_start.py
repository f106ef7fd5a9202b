"""How long the start of a child stops an event loop: `python -m benchmarks.load.child_start` (ADR 0365).

uvloop's own start of a process and `service/flow/child_process.py`, in turn, in a process that grows.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import uvloop

from benchmarks.figures import median
from service.flow.child_process import ChildProcess

_CHILD: Final = (sys.executable, "-c", "pass")
_MIB: Final = (0, 300, 1_000)
_ROUNDS: Final = 7


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line for each size of the process; takes no arguments."""
    uvloop.run(_measure())
    return 0


async def _measure() -> None:
    held = bytearray()
    print("| more memory, MiB | uvloop, ms | this service, ms |\n| --- | --- | --- |")
    for mib in _MIB:
        held = bytearray(mib * 2**20)
        held[::4096] = b"\1" * len(held[::4096])  # or the kernel gives no pages
        found: dict[str, list[float]] = {"uvloop": [], "ours": []}
        for _ in range(_ROUNDS):
            found["uvloop"].append(await _stopped(_by_uvloop))
            found["ours"].append(await _stopped(_by_service))
        print(f"| {len(held) >> 20} | {median(found['uvloop']):.1f} | {median(found['ours']):.1f} |")


async def _stopped(start: Callable[[], Awaitable[Awaitable[object]]]) -> float:
    """Return the milliseconds until the loop goes on; then wait for the child's end."""
    began = time.perf_counter()
    end = await start()
    stopped = time.perf_counter() - began
    await end
    return 1_000 * stopped


async def _by_uvloop() -> Awaitable[object]:
    process = await asyncio.create_subprocess_exec(*_CHILD, start_new_session=True)
    return process.wait()


async def _by_service() -> Awaitable[object]:
    return ChildProcess(_CHILD).ended()


if __name__ == "__main__":
    sys.exit(main())
