"""Standard output and error of a server: what Python code writes there becomes log lines, and nothing waits.

Libraries print, warnings are shown and threads die with a traceback, all on standard error. While the service runs,
these go through the log, whose writer never waits. Native code writes to the descriptor itself: where that is a pipe,
writes that find it full fail at once instead of waiting for its reader. Crash dumps go there too.
"""

from __future__ import annotations

import faulthandler
import io
import logging
import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import structlog

_STDERR: Final = 2
_MAX_PARTIAL: Final = 8_192  # characters without a line break

_log = structlog.get_logger(__name__)


@contextmanager
def captured_streams() -> Iterator[None]:
    """Log what Python code writes to its standard streams, warnings, and the errors that no one catches."""
    before = sys.stdout, sys.stderr, threading.excepthook, sys.unraisablehook
    _never_wait(_STDERR)
    if not faulthandler.is_enabled():
        faulthandler.enable(_STDERR)
    logging.captureWarnings(True)
    sys.stdout, sys.stderr = LoggedStream("stdout", 1), LoggedStream("stderr", _STDERR)
    threading.excepthook, sys.unraisablehook = _thread_failed, _unraisable
    try:
        yield
    finally:
        sys.stdout, sys.stderr, threading.excepthook, sys.unraisablehook = before
        logging.captureWarnings(False)


class LoggedStream(io.TextIOBase):
    """A text stream whose lines become log lines.

    Args:
        name: `stdout` or `stderr`: the event's name.
        descriptor: what `fileno` returns, for crash dumps and child processes.
    """

    def __init__(self, name: str, descriptor: int) -> None:
        self._event, self._descriptor = name, descriptor
        self._partial = ""

    def write(self, text: str) -> int:
        """Take text; every line that is complete is logged."""
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._log(line)
        if len(self._partial) > _MAX_PARTIAL:
            self._log(self._partial)
            self._partial = ""
        return len(text)

    def fileno(self) -> int:
        """Return the descriptor beneath."""
        return self._descriptor

    def writable(self) -> bool:
        """Say that it takes text."""
        return True

    def _log(self, line: str) -> None:
        if line.strip():
            _log.warning(self._event, text=line)


def _never_wait(descriptor: int) -> None:
    """Open the pipe again for this process, non-blocking; the inherited pipe's flag is shared with others."""
    with suppress(OSError):
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK)
            os.dup2(own, descriptor)
            os.close(own)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    name = failure.thread.name if failure.thread is not None else ""
    _log.error("thread_failed", thread=name, exc_info=failure.exc_value)


def _unraisable(failure: sys.UnraisableHookArgs) -> None:
    _log.error("unraisable_error", where=failure.err_msg or "", exc_info=failure.exc_value)
