"""How many requests of a kind may be in progress; for rankings, learnt from how long they take.

A process can do so much in a second. If it lets in more than that within a deadline, everyone is answered too late, and
this goes on after the rush (Little's law: waiting = in progress / rate). The rate depends on the machine, the model and
its neighbours, so the number is not a setting: only its largest value is.
"""

from __future__ import annotations

import time
from typing import Final

_FLOOR: Final = 8
_DOWN: Final = 0.5
_UP: Final = 0.05  # with `_DOWN`, this settles at about 1 in 11 over the target while the gate is the bottleneck


class Gate:
    """Lets requests in while they can be answered in time.

    Args:
        most: never more than this at once.
        target_seconds: what a request should take.
    """

    def __init__(self, most: int, target_seconds: float) -> None:
        self._most, self._target = most, target_seconds
        self._limit = float(most)
        self._inside = 0

    @property
    def limit(self) -> int:
        """Return how many may be inside now."""
        return int(self._limit)

    @property
    def inside(self) -> int:
        """Return how many are inside."""
        return self._inside

    @property
    def is_full(self) -> bool:
        """Return whether the next one would be refused."""
        return self._inside >= self.limit

    def enter(self) -> bool:
        """Count one more in, unless there are too many; everyone who entered must leave."""
        if self.is_full:
            return False
        self._inside += 1
        return True

    def leave(self, seconds: float) -> None:
        """Count one out; what it took moves the limit."""
        was_pressed = 2 * self._inside >= self._limit
        self._inside -= 1
        if seconds > self._target:
            self._limit = max(self._limit - _DOWN, min(_FLOOR, self._most))
        elif was_pressed:
            self._limit = min(self._limit + _UP, self._most)


class Place:
    """A place inside a gate, left once: when the answer is made, or when there will be none.

    Args:
        gate: has been entered.
    """

    __slots__ = ("_entered", "_gate")

    def __init__(self, gate: Gate) -> None:
        self._gate: Gate | None = gate
        self._entered = time.perf_counter()

    def leave(self) -> None:
        """Leave; again does nothing."""
        if self._gate is not None:
            gate, self._gate = self._gate, None
            gate.leave(time.perf_counter() - self._entered)
