"""The files of one source: a file, or all files of a folder; each is read by the format of its own ending."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from contract.behaviours.csv_rows import FileError
from training.data.datasets.text import digest_of_digests
from training.data.files.delimited import DelimitedPart
from training.data.files.json_lines import JsonPart
from training.data.files.opening import PACKED
from training.data.files.part import Part

ENDINGS: Final = ("csv", "tsv", "jsonl", "ndjson", "parquet")
_PACKED: Final = "|".join(re.escape(ending) for ending in PACKED)
_NAME: Final = re.compile(rf"^(?P<stem>.+?)\.(?P<format>{'|'.join(ENDINGS)})({_PACKED})?$", re.IGNORECASE)


def is_own(name: str) -> bool:
    """Return whether a name is that of a file of a known format, or of a folder."""
    return _NAME.match(Path(name).name) is not None or Path(name).is_dir()


def stem(path: Path) -> str:
    """Return the name without the endings of format and packing; a folder's name as it is."""
    found = _NAME.match(path.name)
    return found["stem"] if found and not path.is_dir() else path.name


def mapping_of(path: Path) -> Path | None:
    """Return the mapping beside a file or folder, if there is one."""
    beside = path.parent / f"{stem(path)}.toml"
    return beside if beside.is_file() else None


def paths_of(path: Path) -> list[Path]:
    """Return the files in the order of their names; those of unknown formats are left out.

    So are files and folders whose name begins with `.` or `_`: programs that write a table keep there what is not
    finished.

    Raises:
        FileError: there are none.
    """
    if not path.is_dir():
        return [path]
    found = sorted(
        one
        for one in path.rglob("*")
        if one.is_file() and _NAME.match(one.name) and not any(name[0] in "._" for name in one.relative_to(path).parts)
    )
    if not found:
        raise FileError(f"{path}: no file in it ends in {', '.join(f'.{ending}' for ending in ENDINGS)}")
    return found


def open_part(path: Path) -> Part:
    """Open one file.

    Raises:
        FileError: it cannot be read, or has an unknown ending.
    """
    found = _NAME.match(path.name)
    if found is None:
        raise FileError(f"{path}: not a file of a known format: {', '.join(f'.{ending}' for ending in ENDINGS)}")
    return _OPENERS[found["format"].lower()](path)


def digest_of_files(paths: list[Path]) -> str:
    """Return one digest of the bytes of all files.

    Raises:
        FileError: a file cannot be read.
    """
    digests = {}
    for place, path in enumerate(paths):
        try:
            with path.open("rb") as file:
                digests[f"{place:06d}"] = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise FileError(f"{path}: no such file") from None
        except OSError as error:
            raise FileError(f"{path}: cannot be read: {error.strerror}") from None
    return digest_of_digests(digests)


def _parquet(path: Path) -> Part:
    from training.data.files.parquet import ParquetPart  # only here: other formats do not need the library

    return ParquetPart(path)


_OPENERS: Final[Mapping[str, Callable[[Path], Part]]] = {
    "csv": lambda path: DelimitedPart(path, ","),
    "tsv": lambda path: DelimitedPart(path, "\t"),
    "jsonl": JsonPart,
    "ndjson": JsonPart,
    "parquet": _parquet,
}
