"""Sizes of files, to tell how much of them is read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

_GZIP_END: Final = 4


def unpacked_bytes(path: Path) -> int:
    """Return the size of a file after unpacking, to tell how much is read; 0 if its format does not have it.

    The end of a .gz file has the size of its last member, up to 4 GiB: enough to show progress.
    """
    try:
        size = path.stat().st_size
        if path.suffix.lower() == ".zst":
            return 0
        if path.suffix.lower() == ".gz" and size > _GZIP_END:
            with path.open("rb") as file:
                file.seek(-_GZIP_END, io.SEEK_END)
                return max(size, int.from_bytes(file.read(_GZIP_END), "little"))
    except OSError:  # the error is explained where the file is read
        return 0
    return size
