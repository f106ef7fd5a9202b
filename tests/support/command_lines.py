"""Good input and spoilt files, for tests of command lines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from contract.command_line import run

KINDS: Final = ("missing", "a folder", "empty", "binary", "below a file")


class World(NamedTuple):
    """Good input to be spoilt."""

    folder: Path
    data: Path
    run: Path
    recipe: Path
    behaviours: Path


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


def with_arguments(main: Callable[[], int]) -> Callable[[list[str]], int]:
    """Return a script's main, which reads sys.argv and is ended by `run`, as one that takes arguments."""

    def called(arguments: list[str]) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["script", *arguments])
            return run("error", main)

    return called
