"""Rows of a log on disk, as small integers: for logs that do not fit into memory."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.actions import ACTION_CODES
from training.data.files.coded_ids import Codes
from training.data.files.events import Events

ROWS_FILE: Final = "rows.parquet"
_GROUP: Final = 500_000  # rows of a row group
_COLUMNS: Final = ("u", "i", "t", "a", "p", "v")


@dataclass(frozen=True)
class Spilled:
    """The rows of a log in one Parquet file, in the order of the source.

    Attributes:
        folder: contains the file; it is removed with this object, or when the program ends.
        rows: all of them.
        impressions: of that action.
        users, items: distinct ids that have a row.
    """

    folder: Path
    rows: int
    impressions: int
    users: int
    items: int

    @property
    def path(self) -> Path:
        """The file, with columns u, i (codes), t (milliseconds), a (action), p (play), v (tenths), c0, c1, ..."""
        return self.folder / ROWS_FILE

    def __post_init__(self) -> None:
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def attribute_column(place: int) -> str:
    """Return the name of the column with the codes of the attribute at this place."""
    return f"c{place}"


def spill(batches: Iterable[Events], scratch: Path) -> Spilled:
    """Write all rows to a new folder below `scratch`; a row group is in memory at a time."""
    scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix=".rows-"))
    try:
        counts = _write(_groups(batches), folder / ROWS_FILE)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Spilled(folder, counts.rows, counts.impressions, int(counts.users.sum()), int(counts.items.sum()))


def _write(groups: Iterable[Events], path: Path) -> _Counts:
    import pyarrow.parquet as pq  # only here: most logs fit into memory

    counts, writer = _Counts(), None
    try:
        for group in groups:
            counts.add(group)
            table = _table(group)
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    return counts


class _Counts:
    def __init__(self) -> None:
        self.rows = self.impressions = 0
        self.users, self.items = np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.bool_)

    def add(self, group: Events) -> None:
        self.rows += len(group.users)
        self.impressions += int((group.actions == ACTION_CODES["impression"]).sum())
        self.users, self.items = _marked(self.users, group.users), _marked(self.items, group.items)


def _marked(seen: NDArray[np.bool_], codes: Codes) -> NDArray[np.bool_]:
    """Return `seen` with the codes marked."""
    grown = np.zeros(max(len(seen), int(codes.max(initial=-1)) + 1), dtype=np.bool_)
    grown[: len(seen)] = seen
    grown[codes] = True
    return grown


def _groups(batches: Iterable[Events]) -> Iterable[Events]:
    """Yield the batches joined to groups of about `_GROUP` rows."""
    some: list[Events] = []
    for batch in batches:
        some.append(batch)
        if sum(len(one.users) for one in some) >= _GROUP:
            yield joined(some)
            some = []
    if some:
        yield joined(some)


def joined(batches: list[Events]) -> Events:
    """Return several batches as one."""
    return Events(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))


def _table(group: Events) -> Any:
    import pyarrow as pa

    columns = (group.users, group.items, group.times_ms, group.actions, group.plays_ms, group.values)
    attributes = {attribute_column(place): column for place, column in enumerate(group.attributes.T)}
    return pa.table({**dict(zip(_COLUMNS, columns, strict=True)), **attributes})
