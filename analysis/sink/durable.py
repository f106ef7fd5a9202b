"""Files that survive a crash of the machine: complete and on disk before they have their name."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

PARTIAL: Final = ".partial"  # a file with this suffix is not complete
_LEVELS: Final = 3  # folders above a file: date, table, and the one of all tables


def write_durably(path: Path, writer: str, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name, sync it and rename it; `sync_folders` then keeps the name.

    Args:
        path: the file.
        writer: part of the temporary name; two processes that may write the same file need different ones.
        write: writes the content.

    Raises:
        OSError: it cannot be written; no part of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{writer}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def sync_folders(path: Path) -> None:
    """Make the name of a file, and those of its folders, survive a crash of the machine."""
    for folder in list(path.parents)[:_LEVELS]:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
