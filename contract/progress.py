"""Progress of long work on stderr, with the time left.

On a terminal one line moves; elsewhere there is a plain line at most every ten seconds. Work that ends within seconds
shows nothing. Standard output stays free for results and for programs that read it.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

PLAIN_SECONDS: Final = 10.0
"""Seconds before the first plain line, and between two."""
_MOVING_SECONDS: Final = 0.2
_FIRST_SECONDS: Final = 1.0  # before a moving line appears


class Progress:
    """Shows the share of a task that is done; a context manager that removes the moving line at its end.

    Args:
        title: the task, in a few words.
        total: all of it, in any unit.
        done: what an earlier process has done already.
        quiet: show nothing.
        stream: standard error by default.
        clock: seconds.
    """

    def __init__(
        self,
        title: str,
        total: float,
        *,
        done: float = 0.0,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._total, self._done, self._before = title, total, done, done
        self._stream = None if quiet else stream or sys.stderr  # a process may be started without stderr
        self._moving = self._stream is not None and self._stream.isatty()
        self._clock, self._started, self._width = clock, clock(), 0
        self._next = self._started + (_FIRST_SECONDS if self._moving else PLAIN_SECONDS)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Tell that so much more is done.

        Args:
            amount: in the unit of `total`.
            note: shown after the share, such as a loss.
        """
        self.at(self._done + amount, note)

    def at(self, done: float, note: str = "", title: str = "") -> None:
        """Tell how much is done in all, and perhaps another title."""
        self._done, self._title = done, title or self._title
        now = self._clock()
        if self._stream is not None and now >= self._next:
            self._next = now + (_MOVING_SECONDS if self._moving else PLAIN_SECONDS)
            self._show(self.line(note))

    def line(self, note: str = "") -> str:
        """Return the line that shows the progress now."""
        share = min(1.0, self._done / self._total) if self._total else 1.0
        gone = self._clock() - self._started
        fresh = self._done - self._before
        left = f", {duration(gone * (self._total - self._done) / fresh)} left" if fresh > 0 and share < 1 else ""
        return "  ".join(filter(None, (self._title, f"{share:.0%}", note, f"{duration(gone)}{left}")))

    def clear(self) -> None:
        """Remove the moving line, so that another line can be printed."""
        if self._stream is not None and self._width:
            self._stream.write(f"\r{'':<{self._width}}\r")
            self._stream.flush()
            self._width = 0

    def _show(self, line: str) -> None:
        assert self._stream is not None
        if not self._moving:
            self._stream.write(f"{line}\n")
        else:
            line = line[: shutil.get_terminal_size().columns - 1]
            self._stream.write(f"\r{line:<{self._width}}")
            self._width = len(line)
        self._stream.flush()


def duration(seconds: float) -> str:
    """Return a duration for people: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"
