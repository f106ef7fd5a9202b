"""Reading text files so that what is wrong is named by file, line and column."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

from training.datasets.interactions import DataError

_MAX_SHOWN = 40  # of a bad value, in an error


def fail(path: Path, line: int, column: str, problem: str) -> NoReturn:
    """Raise the error of one bad place.

    Raises:
        DataError: always.
    """
    raise DataError(f"{path}, line {line}, column {column}: {problem}")


def shown(value: str) -> str:
    """Return a value as an error may show it."""
    return repr(value if len(value) <= _MAX_SHOWN else value[:_MAX_SHOWN] + "...")


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file, unpacked where its name ends in .gz.

    Raises:
        DataError: it is missing, unreadable, or no gzip.
    """
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def decode(path: Path, content: bytes, encoding: str) -> str:
    """Return the text of a file.

    Raises:
        DataError: the bytes are not text of this encoding; the line is named.
    """
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not {encoding} text") from None


def fields(path: Path, text: str, separator: str, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, values) of every line that is not empty.

    Raises:
        DataError: a line has fewer or more columns than `columns` names.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        values = line.rstrip("\r").split(separator)
        if len(values) < len(columns):
            missing = columns[len(values)]
            fail(path, number, missing, f"missing: the line has {len(values)} of {len(columns)} columns")
        if len(values) > len(columns):
            raise DataError(f"{path}, line {number}: {len(values)} columns, expected {len(columns)}")
        yield number, values


def whole(path: Path, line: int, column: str, text: str, low: int, high: int) -> int:
    """Return a whole number.

    Raises:
        DataError: the text is no whole number from low to high.
    """
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        fail(path, line, column, f"{shown(text)} is not a whole number from {low} to {high}")
    return value


def identifier(path: Path, line: int, column: str, text: str, longest: int = 128) -> str:
    """Return an id.

    Raises:
        DataError: it is empty or longer than `longest` bytes.
    """
    if not text or len(text.encode()) > longest:
        fail(path, line, column, f"{shown(text)} is not an id of 1 to {longest} bytes")
    return text


def digest_of(contents: dict[str, bytes]) -> str:
    """Return one digest of several files by name."""
    digest = sha256()
    for name in sorted(contents):
        digest.update(f"{name}\n{sha256(contents[name]).hexdigest()}\n".encode())
    return digest.hexdigest()
