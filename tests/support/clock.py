"""An event loop whose time passes only when a test advances it."""

from __future__ import annotations

import asyncio


class Clock(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own; `now` is moved by hand."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def timers(self) -> list[asyncio.TimerHandle]:
        """Return the timers that are still to come."""
        return [timer for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(12):
        await asyncio.sleep(0)
