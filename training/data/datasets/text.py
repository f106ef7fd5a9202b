"""Reads text files; errors name file, line and column."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, NoReturn

from contract.behaviours.csv_rows import FileError, open_lines
from contract.behaviours.grammar import id_problem, shown
from contract.progress import Progress
from training.data.datasets.interactions import DataError

_LINES: Final = 65_536  # read between two looks at the progress


def fail(path: Path, line: int, column: str, problem: str) -> NoReturn:
    """Raise the error of one bad place.

    Raises:
        DataError: always.
    """
    raise DataError(f"{path}, line {line}, column {column}: {problem}")


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file, unpacked if its name ends in .gz.

    Raises:
        DataError: it is missing, unreadable, or not gzip.
    """
    try:
        with open_lines(path) as file:
            return file.read()
    except FileError as error:
        raise DataError(str(error)) from None


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
    for number, line in enumerate(_lines(path, text.split("\n")), start=1):
        if not line.strip():
            continue
        values = line.rstrip("\r").split(separator)
        if len(values) < len(columns):
            missing = columns[len(values)]
            fail(path, number, missing, f"missing: the line has {len(values)} of {len(columns)} columns")
        if len(values) > len(columns):
            raise DataError(f"{path}, line {number}: {len(values)} columns, expected {len(columns)}")
        yield number, values


def _lines(path: Path, lines: list[str]) -> Iterator[str]:
    with Progress(f"reading {path.name}", len(lines)) as progress:
        for start in range(0, len(lines), _LINES):
            yield from lines[start : start + _LINES]
            progress.advance(_LINES)


def whole(path: Path, line: int, column: str, text: str, low: int, high: int) -> int:
    """Return a whole number.

    Raises:
        DataError: the text is not a whole number from low to high.
    """
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        fail(path, line, column, f"{shown(text)} is not a whole number from {low} to {high}")
    return value


def identifier(path: Path, line: int, column: str, text: str) -> str:
    """Return an id.

    Raises:
        DataError: it is not one (contract.behaviours.grammar).
    """
    problem = id_problem(text)
    if problem:
        fail(path, line, column, problem)
    return text


def digest_of(contents: dict[str, bytes]) -> str:
    """Return one digest of several files by name."""
    return digest_of_digests({name: sha256(content).hexdigest() for name, content in contents.items()})


def digest_of_digests(digests: dict[str, str]) -> str:
    """Return one digest of the digests of several files by name."""
    digest = sha256()
    for name in sorted(digests):
        digest.update(f"{name}\n{digests[name]}\n".encode())
    return digest.hexdigest()
