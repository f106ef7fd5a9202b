"""Your own CSV file (contract.behaviours.file has the format), as interactions.

The `behaviours.csv` of a prepared data set is such a file too. The first title, year and
genres of an item in the file count.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np

from contract.behaviours.columns import Chunk
from contract.behaviours.csv_rows import FileError, Problem
from contract.behaviours.file import BadLineError, BehaviourFile, ReadCounts
from contract.behaviours.grammar import MAX_FUTURE_MS
from contract.progress import Progress
from training.data.datasets.interactions import DEFAULT_WINDOW_MS, DataError, Interactions, ItemFacts
from training.data.datasets.text import digest_of_digests
from training.data.sizes import unpacked_bytes

_NO_FACTS: Final = ItemFacts()
_ENDING: Final = re.compile(r"\.csv(\.gz)?$", re.IGNORECASE)


def is_csv(name: str) -> bool:
    """Return whether a name is that of a CSV file: .csv or .csv.gz, in any case."""
    return _ENDING.search(name) is not None


def load(path: Path, on_skip: Callable[[Problem], None] | None = None) -> Interactions:
    """Read the file in chunks; only the numbers and two references of a row are kept.

    Args:
        path: the file; unpacked if its name ends in .gz.
        on_skip: called with each bad line, which is skipped; None stops at the first one.

    Raises:
        DataError: a column is missing, a line is bad and `on_skip` is None, or no line is good.
    """
    file = BehaviourFile(path, latest_ms=time.time_ns() // 1_000_000 + MAX_FUTURE_MS, on_skip=on_skip, keep_ids=True)
    columns = _Columns()
    content = sha256()
    try:
        with Progress(f"reading {path.name}", unpacked_bytes(path)) as progress:

            def taken(piece: bytes) -> None:
                content.update(piece)
                progress.advance(len(piece), f"{len(columns.users):,} rows")

            for chunk in file.chunks(on_bytes=taken):
                columns.add(chunk)
    except FileError as error:
        raise DataError(str(error)) from None
    except BadLineError as error:
        raise DataError(f"{error} (--skip-bad-lines skips, counts and lists such lines)") from None
    if not columns.users:
        skipped = f": all {file.counts.skipped.total():,} were skipped" if file.counts.skipped else ""
        raise DataError(f"{path}: no interactions in it{skipped}")
    digests = {"interactions": content.hexdigest()}
    if file.counts.skipped:  # whether a time is in the future depends on the clock, not only on the bytes
        digests["skipped"] = str(file.counts.skipped.total())
    return columns.interactions(path, digest_of_digests(digests), file.counts)


class _Columns:
    """The rows of all chunks so far."""

    def __init__(self) -> None:
        self.users: list[str] = []
        self.items: list[str] = []
        self._numbers: list[Chunk] = []
        self._catalogue: dict[str, ItemFacts] = {}

    def add(self, chunk: Chunk) -> None:
        """Add the rows of a chunk."""
        self.users += chunk.users
        self.items += chunk.items
        if chunk.titles is None and chunk.genres is None and chunk.years is None:
            self._catalogue.update(dict.fromkeys(chunk.items, _NO_FACTS))
        else:
            self._describe(chunk)
        self._numbers.append(replace(chunk, lines=chunk.lines[:0], users=[], items=[], titles=None, genres=None))

    def interactions(self, path: Path, digest: str, counts: ReadCounts) -> Interactions:
        """Return all rows."""
        return Interactions(
            name=_ENDING.sub("", path.name),
            source=f"CSV file {path.name}",
            digest=digest,
            users=self.users,
            items=self.items,
            times_ms=np.concatenate([chunk.times_ms for chunk in self._numbers]),
            actions=np.concatenate([chunk.actions for chunk in self._numbers]).astype(np.int64),
            values=np.concatenate([chunk.values for chunk in self._numbers]).astype(np.int64),
            plays_ms=np.concatenate([chunk.plays_ms for chunk in self._numbers]).astype(np.int64),
            catalogue=self._catalogue,
            window_ms=DEFAULT_WINDOW_MS,
            read=_read(counts),
        )

    def _describe(self, chunk: Chunk) -> None:
        nothing = [""] * len(chunk.items)
        years = chunk.years.tolist() if chunk.years is not None else [0] * len(chunk.items)
        for item, *facts in zip(chunk.items, chunk.titles or nothing, chunk.genres or nothing, years, strict=True):
            known = self._catalogue.setdefault(item, _NO_FACTS)
            if any(facts) and not (known.title and known.genres and known.year is not None):
                self._catalogue[item] = _merged(known, *facts)


@lru_cache(maxsize=4_096)
def _names(genres: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in genres.split("|"))))


def _merged(known: ItemFacts, title: str, genres: str, year: int) -> ItemFacts:
    return replace(
        known,
        title=known.title or title,
        genres=known.genres or _names(genres),
        year=known.year if known.year is not None else year or None,
    )


def _read(counts: ReadCounts) -> dict[str, int]:
    """Return the reader's counts by name, for the report and the provenance."""
    return {
        "lines": counts.lines,
        "rows": counts.rows,
        "blank_lines": counts.blank,
        "lines_inside_quoted_cells": counts.spanned,
        "ids_with_outer_blanks": counts.padded,
        **{f"skipped_{kind}": count for kind, count in sorted(counts.skipped.items())},
    }
