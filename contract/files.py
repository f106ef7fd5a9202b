"""Files that one package writes and another reads: written completely or not at all, and read without trust.

A file gets its name when it is complete, so that a full disk or a kill leaves the old file or none.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from contract.command_line import CommandError, explained, one_line

Arrays = Mapping[str, NDArray[Any]]  # Any: the file determines the types


class BadFileError(CommandError, ValueError):
    """A file is missing, unreadable or damaged; the message names it."""


class Fields(dict[str, Any]):  # Any: JSON
    """A JSON object of a file; a missing field is an error of the file."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._path = path

    def __missing__(self, name: str) -> Any:
        raise BadFileError(f"{self._path}: damaged: it has no field {name!r}")


def read_object(path: Path) -> Fields:
    """Return the object of a JSON file.

    Raises:
        BadFileError: it is missing, damaged, or not a JSON object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFileError(explained(error)) from None
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{path}: damaged: {one_line(str(error))}") from None
    if not isinstance(document, dict):
        raise BadFileError(f"{path}: damaged: it is not a JSON object")
    return Fields(path, document)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file by name; nothing pickled is ever loaded.

    Raises:
        BadFileError: it is missing or damaged.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise BadFileError(explained(error)) from None
    except (
        Exception
    ) as error:  # numpy, zipfile, zlib and tokenize raise a dozen errors for bytes that are not an archive
        raise BadFileError(f"{path}: damaged: {one_line(str(error)) or type(error).__name__}") from None


def read_array(path: Path) -> NDArray[Any]:  # Any: the file determines the type
    """Return the array of an npy file; nothing pickled is ever loaded.

    Raises:
        BadFileError: it is missing or damaged.
    """
    try:
        return np.asarray(np.load(io.BytesIO(path.read_bytes()), allow_pickle=False))
    except OSError as error:
        raise BadFileError(explained(error)) from None
    except Exception as error:  # as in read_arrays
        raise BadFileError(f"{path}: damaged: {one_line(str(error)) or type(error).__name__}") from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it when it is complete.

    Raises:
        OSError: it cannot be written; no part of it is left.
    """
    partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")  # two processes may write the same file
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill, which replaces `path` when the block ends well.

    If the block fails, the folder is removed and the old content of `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid4().hex[:8]
    fresh, old = path.with_name(f".{path.name}.{mark}.partial"), path.with_name(f".{path.name}.{mark}.old")
    fresh.mkdir()
    try:
        yield fresh
        if path.exists():
            path.rename(old)
        fresh.rename(path)
    finally:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)


def write_json(path: Path, document: object, indent: int | None = 2) -> None:
    """Write a JSON file atomically."""
    write_whole(path, (json.dumps(document, ensure_ascii=False, indent=indent) + "\n").encode())


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write a compressed npz file atomically."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_whole(path, content.getvalue())


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an npy file atomically."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    write_whole(path, content.getvalue())
