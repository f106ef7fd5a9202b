"""When a ranking must be answered from what there is: a little before its deadline."""

from __future__ import annotations

from typing import Final

from service.errors import DeadlineExceeded

_RESERVE: Final = 0.1  # of the budget, kept back for ordering and writing the answer, within the bounds below
_RESERVE_SECONDS: Final = (0.002, 0.01)  # at least two ticks of an event loop's timer


def cutoff_of(now: float, deadline: float) -> float:
    """Return the time after which a ranking waits for nothing more; both are event loop times.

    Raises:
        DeadlineExceeded: it is too late to begin.
    """
    if deadline <= now:
        raise DeadlineExceeded("The deadline passed before the work began.")
    least, most = _RESERVE_SECONDS
    return deadline - min(max(_RESERVE * (deadline - now), least), most)
