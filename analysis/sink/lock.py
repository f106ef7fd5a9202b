"""A lock on a name in a folder, held by one process at a time and freed when that process ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contract.command_line import CommandError


@contextmanager
def locked(folder: Path, name: str, problem: str) -> Iterator[None]:
    """Hold the lock of a name while the block runs.

    Raises:
        CommandError: another process has it; the message is `problem`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{name}.lock"
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"{path}: {problem}") from None
        yield
