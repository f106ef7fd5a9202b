"""Writes log lines to a file descriptor, from a separate thread.

The reader of the log can stop reading, go away, or run out of disk. This must not slow or fail a request: `put`
never waits and never raises. Lines wait in a bounded buffer; when it is full, new lines are dropped and counted, and a
line with their number replaces them. After an error of the descriptor the thread tries again, without a message.

The standard library's QueueHandler and QueueListener do not fit: they drop without a count, their listener has no
bounded end, and an error of the stream loses the line or prints a traceback on standard error.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

MAX_BYTES: Final = 8 * 1024 * 1024
CLOSE_SECONDS: Final = 1.0  # for the last lines
_CHUNK_BYTES: Final = 4096  # PIPE_BUF: a write of no more is never mixed with another process's on the same pipe
_GATHER_SECONDS: Final = 0.05  # a line waits for more: one write takes many, and the thread wakes less often
_PAUSES: Final = (0.01, 1.0)  # the shortest and the longest between tries while the descriptor takes nothing
_LINE_OVERHEAD: Final = 64  # bytes that a line costs in addition to its text
_WAITS: Final = frozenset({errno.EAGAIN, errno.EINTR})


def plain_notice(count: int) -> bytes:
    """Return the line that replaces dropped lines."""
    return b"log_lines_dropped count=%d" % count


class LineWriter:
    """Writes lines in the order in which they come, whole, or drops them.

    Args:
        descriptor: written to; blocking or not.
        max_bytes: of lines that wait.
        notice: returns the line that replaces dropped ones.
    """

    def __init__(
        self, descriptor: int, *, max_bytes: int = MAX_BYTES, notice: Callable[[int], bytes] = plain_notice
    ) -> None:
        self._descriptor, self._max_bytes, self.notice = descriptor, max_bytes, notice
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._gap = 0  # lines dropped since the last one that was taken
        self._is_awake = self._is_closing = False
        # Reentrant, and a bare lock to sleep on: the garbage collector may run inside `put`, and what it destroys may
        # log ("Task exception was never retrieved").
        self._lock, self._sleep = threading.RLock(), threading.Lock()
        self._sleep.acquire()
        self._closing, self._abandoned = threading.Event(), threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue a line without its end; never waits, never raises."""
        size = len(line) + _LINE_OVERHEAD
        with self._lock:
            if self._gap or self._is_closing or self._bytes + size > self._max_bytes:
                self._put_after_others(line)
            else:
                self._lines.append(line)
                self._bytes += size
            was_awake, self._is_awake = self._is_awake, True
        if not was_awake:
            self._wake()

    def _put_after_others(self, line: bytes) -> None:
        """Take a line after some that were dropped, or drop it too."""
        if self._has_room(len(line)):
            self._fill_gap()
            self._append(line)
        else:
            self._gap += 1
            self.dropped += 1

    def close(self, timeout_seconds: float = CLOSE_SECONDS) -> None:
        """Write what waits, within the timeout; what a broken descriptor does not take is given up at once."""
        self._is_closing = True
        self._closing.set()
        self._wake()
        self._thread.join(timeout_seconds)
        self._abandoned.set()

    def _has_room(self, size: int) -> bool:
        # After a drop, lines are taken again when half the buffer is free: else a slow reader would see more notices
        # than lines.
        limit = self._max_bytes // 2 if self._gap else self._max_bytes
        return self._bytes + size + _LINE_OVERHEAD <= limit and not self._is_closing

    def _append(self, line: bytes) -> None:
        self._lines.append(line)
        self._bytes += len(line) + _LINE_OVERHEAD

    def _fill_gap(self) -> None:
        gap, self._gap = self._gap, 0
        if gap:
            self._append(self.notice(gap))

    def _wake(self) -> None:
        with suppress(RuntimeError):  # it is awake
            self._sleep.release()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._sleep.acquire()
            self._closing.wait(_GATHER_SECONDS)
            is_last = self._closing.is_set()
            try:
                while chunk := self._take():
                    self._write(chunk)
            except Exception:  # out of memory, say: the thread must outlive it, and be woken again
                self._is_awake = False

    def _take(self) -> bytes:
        """Return the oldest lines, as many as fit one write."""
        taken: list[bytes] = []
        size = 0
        with self._lock:
            if not self._lines:
                self._fill_gap()
            while self._lines and (not taken or size + len(self._lines[0]) < _CHUNK_BYTES):
                line = self._lines.popleft()
                self._bytes -= len(line) + _LINE_OVERHEAD
                size += len(line) + 1
                taken.append(line)
            self._is_awake = bool(taken)
        return b"\n".join([*taken, b""])

    def _write(self, chunk: bytes) -> None:
        """Write all of it, trying again after errors: a line that was begun is always ended before the next one."""
        left, pause = memoryview(chunk), _PAUSES[0]
        while left and not self._abandoned.is_set():
            try:
                left, pause = left[os.write(self._descriptor, left) :], _PAUSES[0]
            except OSError as error:
                if self._closing.is_set() and error.errno not in _WAITS:
                    return
                self._pause(pause)
                pause = min(2 * pause, _PAUSES[1])

    def _pause(self, seconds: float) -> None:
        if self._closing.is_set():
            self._abandoned.wait(_PAUSES[0])
        else:
            self._closing.wait(seconds)
