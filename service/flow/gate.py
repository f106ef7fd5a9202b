"""How many requests of a kind may be in progress: as many as can be answered in time.

A process can do so much in a second. If it lets in more than that within a deadline, everyone is answered too late, and
this goes on after the rush (Little's law: time = in progress / rate). So the gate learns the pace, which depends on the
machine, the model and its neighbours: how much later a ranking is answered for each one in progress. A request that
would take more than a part of its own deadline is refused, and others with more time are not.
"""

from __future__ import annotations

import math
import time
from typing import Final

_SHARE: Final = 0.6  # of a deadline: what a ranking may take here; the rest is for chance, the network and the caller
_FLOOR: Final = 8  # so many may always be in: with fewer, a batch is too small to say what a full one costs
_SMALL: Final = 8  # a caller that has more than one in so many of those inside must leave room for others
_WEIGHT: Final = 1 / 32  # of the newest ranking in the pace
_SUDDEN: Final = 2.0  # times the pace, and a little more: what one ranking may add; the rest of it may be a pause
_LITTLE_SECONDS: Final = 0.0005


class Gate:
    """Lets requests in while they can be answered in time.

    Args:
        most: never more than this at once.
        budget_seconds: the deadline of a request that names none.
    """

    def __init__(self, most: int, budget_seconds: float = math.inf) -> None:
        self._most, self._budget = most, budget_seconds
        self._pace = 0.0  # seconds that each ranking in progress adds
        self._inside = 0

    @property
    def inside(self) -> int:
        """Return how many are inside."""
        return self._inside

    def is_full(self, budget_seconds: float | None = None, held: int = 0) -> bool:
        """Return whether a request that has so much time would be refused.

        Args:
            budget_seconds: the time that the request has.
            held: how many of those inside are of the same caller. A caller that has more than an eighth of them finds
                the gate full at three quarters: the last quarter is for callers that have few inside.
        """
        inside = self._inside
        if held * _SMALL > inside:
            inside += inside // 3
        if inside >= self._most or inside < _FLOOR:
            return inside >= self._most
        return (inside + 1) * self._pace > _SHARE * (self._budget if budget_seconds is None else budget_seconds)

    def enter(self, budget_seconds: float | None = None, held: int = 0) -> bool:
        """Count one more in, unless there are too many; everyone who entered must leave."""
        if self.is_full(budget_seconds, held):
            return False
        self._inside += 1
        return True

    def leave(self, seconds: float, among: int = 0) -> None:
        """Count one out.

        A pause of the machine makes all that are inside late at once. It must not look like a slow service, which is
        slow for the next ones too.

        Args:
            seconds: what it took.
            among: how many were inside when it came, itself included.
        """
        self._inside -= 1
        if among >= _FLOOR:
            added = min(seconds / among, _SUDDEN * self._pace + _LITTLE_SECONDS)
            self._pace += (added - self._pace) * _WEIGHT


class Part:
    """The gate as one of several callers sees it, who must leave room for the others.

    Args:
        whole: the gate of all callers.
    """

    def __init__(self, whole: Gate) -> None:
        self._whole = whole
        self._held = 0
        self.is_shared = True  # whether there are other callers

    @property
    def inside(self) -> int:
        """Return how many are inside, of all callers."""
        return self._whole.inside

    def is_full(self, budget_seconds: float | None = None) -> bool:
        """Return whether a request of this caller would be refused."""
        return self._whole.is_full(budget_seconds, self._held if self.is_shared else 0)

    def enter(self, budget_seconds: float | None = None) -> bool:
        """Count one more of this caller in, unless there are too many."""
        if not self._whole.enter(budget_seconds, self._held if self.is_shared else 0):
            return False
        self._held += 1
        return True

    def leave(self, seconds: float, among: int = 0) -> None:
        """Count one of this caller out; as `Gate.leave`."""
        self._held -= 1
        self._whole.leave(seconds, among)


class Place:
    """A place inside a gate, left once: when the answer is ready, or when there will be none.

    Args:
        gate: has been entered.
    """

    __slots__ = ("_among", "_entered", "_gate")

    def __init__(self, gate: Gate | Part) -> None:
        self._gate: Gate | Part | None = gate
        self._among = gate.inside
        self._entered = time.perf_counter()

    def leave(self) -> None:
        """Leave; a second call does nothing."""
        if self._gate is not None:
            gate, self._gate = self._gate, None
            gate.leave(time.perf_counter() - self._entered, self._among)
