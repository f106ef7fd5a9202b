"""The first and the last moments of the process. Imports nothing but small parts of the standard library.

Process 1 of a container has no default action for signals: before a handler is installed, a SIGTERM is lost. So the
handler comes before the imports that take most of a second. Until the server takes signals over, no request has been
accepted, and there is nothing to wait for.
"""

import gc
import os
import select
import signal
import sys
from contextlib import suppress
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def begin() -> None:
    """Open what standard streams are missing, and let SIGTERM and SIGINT end the process with status 0.

    Garbage is not collected until the process serves: imports make hardly any, and each search of it would visit all
    that they made, for a tenth of the processor time of a start.
    """
    gc.disable()
    _open_missing()
    for number in SIGNALS:
        signal.signal(number, _end)


def end(status: int) -> None:
    """End the process without waiting for threads that may never return."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # its reader is gone
            stream.flush()
    os._exit(status)


def _open_missing() -> None:
    """Put /dev/null in place of a closed standard descriptor: else the next file or socket would get its number."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _end(number: int, _frame: FrameType | None) -> None:
    line = b'{"event": "stopped", "level": "info", "signal": "%s"}\n' % signal.Signals(number).name.encode()
    if select.select([], [1], [], 0)[1]:  # a reader that has stopped must not keep the process
        with suppress(OSError):
            os.write(1, line)
    os._exit(0)
