"""Notices a bundle whose batches take longer than a request may."""

from __future__ import annotations

from collections import deque
from typing import Final

_WINDOW: Final = 6  # batches to look back at
_SLOW: Final = 3  # how many of them must be slow: a pause of the machine affects one or two


class SlowGuard:
    """Open while a bundle is too slow to be used.

    Args:
        limit_seconds: a batch that takes longer is slow.
    """

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        self.is_open = False
        self._slow: deque[bool] = deque(maxlen=_WINDOW)

    def note(self, seconds: float) -> bool:
        """Note how long a batch took; return whether that opens the guard."""
        self._slow.append(seconds > self.limit_seconds)
        slow = sum(self._slow)
        if self.is_open or slow < _SLOW or slow * 2 < len(self._slow):
            return False
        self.is_open = True
        return True

    def close(self) -> None:
        """Use the bundle again, with a clean record."""
        self.is_open = False
        self._slow.clear()
