"""How many rankings may be in progress, learnt from how long they take.

A process can do so much in a second; whoever lets in more than that within a deadline answers everybody too late, and
goes on to do so after the rush (Little's law: waiting = in progress / rate). The rate depends on the machine, on the
model and on its neighbours, so the number is not a setting: only its largest value is.
"""

from __future__ import annotations

from typing import Final

_FLOOR: Final = 8
_DOWN: Final = 0.5
_UP: Final = 0.05  # with `_DOWN`, one answer in eleven takes longer than the target while the gate is what holds back


class Gate:
    """Lets rankings in while they can be answered in time.

    Args:
        most: never more than this at once.
        target_seconds: what a ranking should take.
    """

    def __init__(self, most: int, target_seconds: float) -> None:
        self._most, self._target = most, target_seconds
        self._limit = float(most)
        self._inside = 0

    @property
    def limit(self) -> int:
        """Return how many may be inside now."""
        return int(self._limit)

    def enter(self) -> bool:
        """Count one more in, unless there are too many; whoever entered must leave."""
        if self._inside >= self.limit:
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
