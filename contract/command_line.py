"""The end of every command line: an expected error is one line on stderr and a status, never a traceback.

Expected errors are those that a person, a file or the machine can cause: a `CommandError`, or an `OSError` (no such
file, no permission, a full disk, an output that no process reads). Any other error is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable
from typing import Final

FAILED: Final = 1
STOPPED: Final = 130  # the status that a shell uses for Ctrl-C

_LOGIN: Final = re.compile(r"://[^\s/]*@")
_ADVICE: Final = {
    errno.ENOSPC: "make room on the disk and run the command again",
    errno.EDQUOT: "make room in your quota and run the command again",
    errno.EPIPE: "the reader of the output has closed it",
    errno.EACCES: "check who owns it, or name another place",
    errno.EROFS: "name another place",
}


class CommandError(Exception):
    """A command cannot do its work; the message is one line with the reason and the remedy.

    Args:
        message: the line.
        details: more lines to show below it, such as the last words of another program.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


def run(name: str, command: Callable[[], int], stopped: str = "stopped") -> int:
    """Run a command and return its exit status: its own, 1 after an expected error, 130 after Ctrl-C.

    Args:
        name: the text before the colon of an error's line.
        command: does the work and returns a status.
        stopped: the line to print after Ctrl-C.
    """
    try:
        status = command()
        if sys.stdout is not None:  # a process may be started without one
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        say(stopped)
        return STOPPED
    except CommandError as error:
        say(f"{name}: {one_line(str(error))}")
        if error.details:
            say(error.details)
    except OSError as error:
        say(f"{name}: {explained(error)}")
    _drop_unwritten_output()
    return FAILED


def explained(error: OSError) -> str:
    """Return one line about an error of the operating system: the file, the error, the remedy."""
    text = error.strerror or str(error) or type(error).__name__
    place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    advice = _ADVICE.get(error.errno or 0)
    return one_line(f"{place}{text}" + (f"; {advice}" if advice else ""))


def one_line(text: str) -> str:
    """Return a text without line ends and runs of blanks."""
    return " ".join(text.split())


def without_login(text: str) -> str:
    """Return a text whose addresses have no user name and password."""
    return _LOGIN.sub("://***@", text)


def say(text: str) -> None:
    """Write a line to stderr."""
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")


def _drop_unwritten_output() -> None:
    """Discard output that cannot be written: the interpreter would try again at exit and report the failure."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
