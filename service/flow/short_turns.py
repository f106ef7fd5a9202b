"""Work of seconds in a thread beside an event loop that serves.

Python lets a thread keep the interpreter for 5 ms while others wait. While one reads an experiment file or loads a
bundle, a ranking would wait for so long, again and again. Shorter turns cost batches some of their size, so they end
with the work.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

_SECONDS: Final = 0.0005

_lock = Lock()
_before: list[float] = []  # one for each block


@contextmanager
def short_turns() -> Iterator[None]:
    """Let threads take turns ten times as often as usual, until the last of such blocks ends."""
    with _lock:
        _before.append(_before[0] if _before else sys.getswitchinterval())
        sys.setswitchinterval(_SECONDS)
    try:
        yield
    finally:
        with _lock:
            usual = _before.pop()
            if not _before:
                sys.setswitchinterval(usual)
