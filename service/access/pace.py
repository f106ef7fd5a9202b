"""Refusals at a limited rate: a caller that repeats a refused request at once waits for the next refusal.

A refusal costs about as much processor time as a small ranking, most of it in the kernel. Without a limit, 32
connections that are refused at once keep the event loop busy, and every other caller waits.
"""

from __future__ import annotations

from typing import Final

from service.flow.turns import PAUSE, Turns

CALLER_SECONDS: Final = 0.004  # between two refusals of one caller
STRANGERS_SECONDS: Final = 0.002  # between two refusals of requests without a key


class Pace:
    """Lets one refusal pass at a time, in the order in which they came; the first one at once.

    Args:
        seconds: between two of them.
    """

    def __init__(self, seconds: float) -> None:
        self._turns = Turns(lambda: True)
        self._charge = seconds / PAUSE

    async def wait(self) -> None:
        """Wait until the next refusal may be sent."""
        await self._turns.take()
        self._turns.charge(self._charge)
