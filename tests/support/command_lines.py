"""Spoilt files, for tests of command lines."""

from __future__ import annotations

from pathlib import Path
from typing import Final

KINDS: Final = ("missing", "a folder", "empty", "binary", "below a file")


def spoilt(path: Path, kind: str) -> Path:
    """Return a path where a good file should be, spoilt."""
    if path.is_file():
        path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "below a file":
        (path.parent / "file").write_text("x")
        return path.parent / "file" / path.name
    elif kind != "missing":
        path.write_bytes(b"" if kind == "empty" else bytes(range(256)) * 4)
    return path
