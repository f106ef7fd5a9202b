"""JSON lines: one object per line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from contract.behaviours.csv_rows import FileError, Problem
from training.data.files.opening import open_packed
from training.data.files.part import BATCH, Batch, Part
from training.data.sizes import unpacked_bytes

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonPart(Part):
    """A text file with one JSON object per line; a key that a line lacks is an empty cell."""

    whole: ClassVar[bool] = False

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with open_packed(path) as file:
            first = next(filter(bytes.strip, file), b"{}")
        try:
            self.columns = tuple(_object(first))
        except ValueError as error:
            raise FileError(f"{path}, line 1: {error}") from None

    def batches(self, wanted: Sequence[str], ids: Sequence[str], skip: Callable[[Problem], None]) -> Iterator[Batch]:
        """See the base class."""
        with open_packed(self.path) as file:
            numbered = enumerate(file, start=1)
            size = unpacked_bytes(self.path)
            while some := list(islice(numbered, BATCH)):
                self.share = file.tell() / size if size else 0.0
                lines, rows = self._rows(some, skip)
                columns = {name: [row.get(name) for row in rows] for name in wanted}
                self._count_padded([columns[name] for name in ids])
                yield Batch(np.array(lines, dtype=np.int64), columns)

    def _rows(
        self, some: list[tuple[int, bytes]], skip: Callable[[Problem], None]
    ) -> tuple[list[int], list[dict[str, Any]]]:
        lines, rows = [], []
        for line, content in some:
            if not content.strip():
                self.blank += 1
                continue
            try:
                rows.append(_object(content))
                lines.append(line)
            except ValueError as error:
                skip(self.problem(line, "", "text", str(error)))
        self.lines = some[-1][0]
        return lines, rows

    def _count_padded(self, columns: list[list[Any]]) -> None:
        self.padded += sum(
            any(isinstance(cell, str) and cell != cell.strip(" \t") for cell in cells)
            for cells in zip(*columns, strict=True)
        )


def _object(content: bytes) -> dict[str, Any]:
    """Return the object of one line.

    Raises:
        ValueError: it is not one.
    """
    try:
        found = json.loads(content.removeprefix(b"\xef\xbb\xbf"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    if _SURROGATE.search(content) and not _is_text(found):
        raise ValueError("not text: it has half of a surrogate pair, as a text that was cut in a character")
    return found


def _is_text(found: object) -> bool:
    """Return whether all texts can be written as UTF-8."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
