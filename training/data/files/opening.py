"""Opens a file that may be packed, to be read line by line."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

from contract.behaviours.csv_rows import named_errors

PACKED: Final = (".gz", ".zst")


@contextmanager
def open_packed(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacked if its name ends in .gz or .zst.

    Raises:
        FileError: it is missing or unreadable, or not packed as its name tells; also raised while it is read.
    """
    with named_errors(path), _opened(path) as file:
        yield file


def _opened(path: Path) -> IO[bytes]:
    ending = path.suffix.lower()
    if ending == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if ending == ".zst":
        import pyarrow as pa  # only here: most files need no such library

        return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"), 1 << 20)
    return path.open("rb")
