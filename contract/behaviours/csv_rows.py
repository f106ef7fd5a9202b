"""The only CSV reader: any file with a header, row by row, with the exact place of every problem.

- UTF-8 with or without a byte order mark; unpacked if the name ends in `.gz`.
- Blanks (spaces and tabs) around a cell are removed, inside its quotes or outside. Empty lines are ignored.
- Cells are separated by commas, or by tabs; a tab is then not a blank.
- A cell in quotes may contain commas, doubled quotes and line breaks. A record that cannot be read is reported by its
  first line; the lines after it are then read again as separate records, so that an unclosed quote hides no row.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple

BLANKS: Final = " \t"
_BLANKS_OF: Final = {",": BLANKS, "\t": " "}
_BOM: Final = b"\xef\xbb\xbf"
_OUTER_BLANK: Final = {
    ",": re.compile(rb"^[ \t]|[,\"][ \t]|[ \t][,\"]|[ \t][\r\n]*$"),  # in quotes or not
    "\t": re.compile(rb"^ |[\t\"] | [\t\"]| [\r\n]*$"),
}
_TAB_BEFORE_QUOTE: Final = re.compile(rb'(^|,)[ \t]*\t[ \t]*"')
_TOLD: Final = {
    "unexpected end of data": "a quote opens here and is never closed",
    "field larger than": "a cell begins here that is longer than 131,072 characters: is its quote closed?",
    "expected after": "a quoted cell continues after its closing quote: is a quote not closed, or not doubled?",
    "new-line character": "lines end in bare carriage returns; save the file with LF or CR LF",
}


class FileError(ValueError):
    """The file as a whole cannot be read; the message is one line and names it."""


class Problem(NamedTuple):
    """A problem with one line.

    Attributes:
        line: from 1, where the record begins.
        column: as the file's header spells it; "" for the line as a whole.
        kind: one of a closed list, for counts.
        message: for people.
        place: file and line for people; "" if the caller knows the file.
    """

    line: int
    column: str
    kind: str
    message: str
    place: str = ""

    def told(self, path: Path) -> str:
        """Return the problem in one line."""
        column = f", column {self.column}" if self.column else ""
        return f"{self.place or f'{path}, line {self.line}'}{column}: {self.message}"


class Row(NamedTuple):
    """One record: the line where it begins, and as many cells as the header has."""

    line: int
    cells: list[str]


class CsvRows:
    """The header and the records of one file.

    Args:
        path: for messages.
        content: the file's lines as bytes.
        separator: of cells, a comma or a tab.

    Attributes:
        header: the names of the columns, as the file spells them.
        lines, blank, spanned: lines read so far; those that were empty; those inside a quoted cell that began earlier.
        padded: records with a blank before or after a cell that `watched` names by its place.

    Raises:
        FileError: the header cannot be read.
    """

    def __init__(self, path: Path, content: Iterable[bytes], separator: str = ",") -> None:
        self._path, self._blanks, self._separator = path, _BLANKS_OF[separator], separator
        self._source = _Lines(content, _OUTER_BLANK[separator])
        self._reader = csv.reader(self._source, strict=True, skipinitialspace=True, delimiter=separator)
        self.blank = self.spanned = self.padded = 0
        self.watched: tuple[int, ...] = ()
        self.header = self._header()

    @property
    def lines(self) -> int:
        """The number of lines read so far."""
        return self._source.number

    def __iter__(self) -> Iterator[Row | Problem]:
        """Yield each record or its problem; lines after a bad line are read as usual."""
        width = len(self.header)
        while True:
            self._source.begin()
            line = self._source.number + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except (csv.Error, UnicodeDecodeError) as error:
                yield self._unreadable(line, error)
                self._source.rewind()
                continue
            if not cells or (len(cells) == 1 and not cells[0].strip()):
                self.blank += 1
                continue
            problem = self._misfit(line, len(cells)) if len(cells) != width else self._strip(line, cells)
            if problem is not None:
                yield problem
                self._source.rewind()
                continue
            self.spanned += self._source.number - line
            yield Row(line, cells)

    def _header(self) -> list[str]:
        self._source.begin()
        try:
            header = [name.strip() for name in next(self._reader, [])]
        except (csv.Error, UnicodeDecodeError) as error:
            raise FileError(self._unreadable(1, error).told(self._path)) from None
        repeated = {name for name in header if name and header.count(name) > 1}
        if repeated:
            raise FileError(f"{self._path}, line 1: column {min(repeated)} is there twice")
        return header

    def _strip(self, line: int, cells: list[str]) -> Problem | None:
        """Remove the blanks around the cells."""
        if not self._source.has_blanks:
            return None
        if (
            self._separator == ","
            and any(cell[:1] == "\t" and cell.lstrip(BLANKS)[:1] == '"' for cell in cells)
            and any(_TAB_BEFORE_QUOTE.search(raw) for raw in self._source.record)
        ):
            return Problem(line, "", "quotes", "a tab before a quote; put the quote next to the comma")
        self.padded += any(cell != cell.strip(self._blanks) for cell in self._raw_watched())
        cells[:] = [cell.strip(self._blanks) for cell in cells]
        return None

    def _unreadable(self, line: int, error: Exception) -> Problem:
        if not isinstance(error, UnicodeDecodeError):
            known = (told for part, told in _TOLD.items() if part in str(error))
            return Problem(line, "", "quotes", next(known, str(error)))
        if self._source.number == line:
            return Problem(line, "", "text", "not UTF-8 text")
        return Problem(line, "", "quotes", f"a quote opens here, and line {self._source.number} is not UTF-8 text")

    def _misfit(self, line: int, found: int) -> Problem:
        width = len(self.header)
        spans = "; a quoted cell continues over several lines: is its quote closed?" * (self._source.number > line)
        if found < width:
            return Problem(
                line, self.header[found], "columns", f"missing: the line has {found} of {width} columns{spans}"
            )
        return Problem(line, "", "columns", f"{found} columns, expected {width}{spans}")

    def _raw_watched(self) -> Iterator[str]:
        """Yield the watched cells of the record with the blanks around them."""
        cells = next(csv.reader((raw.decode() for raw in self._source.record), delimiter=self._separator))
        return (cells[place] for place in self.watched if place < len(cells))


class _Lines:
    """The lines of a file as text, one at a time; those of the current record can be read again."""

    def __init__(self, content: Iterable[bytes], outer_blank: re.Pattern[bytes]) -> None:
        self._content, self._outer_blank = iter(content), outer_blank
        self._again: deque[bytes] = deque()
        self.number = 0
        self.record: list[bytes] = []
        self.has_blanks = False  # whether the record may have blanks around a cell

    def begin(self) -> None:
        """Begin a record."""
        self.record = []
        self.has_blanks = False

    def rewind(self) -> None:
        """Make all lines of the record except its first readable again."""
        self.number -= len(self.record) - 1
        self._again.extendleft(reversed(self.record[1:]))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._again.popleft() if self._again else next(self._content)
        self.number += 1
        if self.number == 1:
            raw = raw.removeprefix(_BOM)
        self.record.append(raw)
        if b" " in raw or b"\t" in raw:
            self.has_blanks |= self._outer_blank.search(raw) is not None
        return raw.decode()


@contextmanager
def open_lines(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to be read line by line, unpacked if its name ends in .gz (or .GZ).

    Raises:
        FileError: it is missing or unreadable, or not gzip although its name ends in .gz; also raised while its lines
            are read.
    """
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with named_errors(path), opener(path, "rb") as file:
        yield file  # type: ignore[misc]


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Raise a FileError that names the file for every error of opening, unpacking and reading it."""
    try:
        yield
    except FileNotFoundError:
        raise FileError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise FileError(f"{path}: is a folder, not a file") from None
    except EOFError as error:
        raise FileError(f"{path}: is cut off: it ends before its compressed data do; copy or write it again") from error
    except (OSError, zlib.error) as error:
        raise FileError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
