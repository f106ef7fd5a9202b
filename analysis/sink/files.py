"""Files of the sink: each is complete and on disk before it has its name, and its name is that of its entries.

A batch that is written again, since the sink ended before it had acknowledged it, gets the same names, so that readers
never see its rows twice.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.sink.durable import PARTIAL, sync_folders, write_durably
from analysis.sink.events import DamagedEventError, Reader, Row
from analysis.sink.source import Entry
from analysis.tables.schemas import written

_DAY_MS: Final = 86_400_000
_CHUNK: Final = 2_000  # rows that are Python objects at the same time
_NOT_TAKEN: Final = (pa.ArrowException, ValueError, TypeError, OverflowError)


class Written(NamedTuple):
    """Result of one batch."""

    rows: int
    rejected: dict[str, int]  # by kind of damage
    lost: int  # entries that were trimmed from the stream before they were written
    files: int
    bytes: int


class Files:
    """The folder of one table.

    Args:
        folder: of all tables.
        reader: of the table's events.
        consumer: of this sink; its incomplete files of an earlier run are removed.
    """

    def __init__(self, folder: Path, reader: Reader, consumer: str) -> None:
        self._reader, self._consumer = reader, consumer
        self._table = folder / reader.kind.table
        self._rejected = folder / "rejected" / reader.kind.table
        for place in (self._table, self._rejected):
            for leftover in place.glob(f"date=*/*.{consumer}{PARTIAL}"):
                leftover.unlink()

    def write(self, entries: Sequence[Entry]) -> Written:
        """Write a batch; when this returns, its rows survive a crash of the machine.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        name = batch_name(entries)
        missing = sum(entry.event is None for entry in entries)
        if missing and any(self._table.glob(f"date=*/{name}.parquet")):
            missing = 0  # an earlier try has written them
        days: dict[int, list[pa.RecordBatch]] = defaultdict(list)
        damaged: dict[date, list[tuple[Entry, DamagedEventError]]] = defaultdict(list)
        for chunk in _chunks(entries):
            self._convert(chunk, days, damaged)
        sizes = [self._write_rejected(day, name, lines) for day, lines in damaged.items()]
        sizes += [self._write_rows(_date(day), name, batches) for day, batches in days.items()]
        rows = sum(batch.num_rows for batches in days.values() for batch in batches)
        return Written(rows, _counts(damaged.values()), missing, len(sizes), sum(sizes))

    def _convert(
        self,
        entries: Iterable[Entry],
        days: dict[int, list[pa.RecordBatch]],
        damaged: dict[date, list[tuple[Entry, DamagedEventError]]],
    ) -> None:
        rows: dict[int, list[tuple[Entry, Row]]] = defaultdict(list)
        clock = self._reader.kind.clock
        for entry in entries:
            if entry.event is None:
                continue
            try:
                row = self._reader.row(entry.event)
            except DamagedEventError as error:
                damaged[_day_of(entry)].append((entry, error))
            else:
                rows[row[clock] // _DAY_MS].append((entry, row))
        for day, ones in rows.items():
            batch = self._batch(ones, damaged)
            if batch.num_rows:
                days[day].append(batch)

    def _batch(
        self, ones: Sequence[tuple[Entry, Row]], damaged: dict[date, list[tuple[Entry, DamagedEventError]]]
    ) -> pa.RecordBatch:
        """Return rows as Arrow has them. A row that it does not take, such as a score of 31 digits, is damaged too."""
        schema, kept = self._reader.kind.schema, [row for _, row in ones]
        try:
            return pa.RecordBatch.from_pylist(kept, schema)
        except _NOT_TAKEN:
            kept = []
        for entry, row in ones:
            try:
                pa.RecordBatch.from_pylist([row], schema)
            except _NOT_TAKEN as error:
                damaged[_day_of(entry)].append((entry, DamagedEventError("type", str(error))))
            else:
                kept.append(row)
        return pa.RecordBatch.from_pylist(kept, schema)

    def _write_rows(self, day: date, name: str, batches: list[pa.RecordBatch]) -> int:
        path = self._table / f"date={day}" / f"{name}.parquet"
        if not _is_whole(path):
            table = written(pa.Table.from_batches(batches))
            write_durably(path, self._consumer, lambda file: pq.write_table(table, file, compression="zstd"))
        sync_folders(path)
        return path.stat().st_size

    def _write_rejected(self, day: date, name: str, lines: list[tuple[Entry, DamagedEventError]]) -> int:
        path = self._rejected / f"date={day}" / f"{name}.jsonl"
        if not path.exists():  # as for rows
            content = b"".join(_line(entry, error) for entry, error in lines)
            write_durably(path, self._consumer, lambda file: file.write(content))
        sync_folders(path)
        return path.stat().st_size


def batch_name(entries: Sequence[Entry]) -> str:
    """Return a name that the same entries always get, and no other ones: first, last, and a digest of all ids."""
    digest = sha256(" ".join(entry.id for entry in entries).encode()).hexdigest()
    return f"{entries[0].id}_{entries[-1].id}_{digest[:12]}"


def _is_whole(path: Path) -> bool:
    """Say whether an earlier try has written a file. Entries may be gone by now, so it is not written again."""
    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return False
    return True


def _line(entry: Entry, error: DamagedEventError) -> bytes:
    event = entry.event or b""
    try:
        content = {"event": event.decode()}
    except UnicodeDecodeError:
        content = {"event_base64": base64.b64encode(event).decode()}
    return json.dumps({"entry": entry.id, "kind": error.kind, "reason": str(error), **content}).encode() + b"\n"


def _counts(groups: Iterable[list[tuple[Entry, DamagedEventError]]]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for group in groups:
        for _, error in group:
            counts[error.kind] += 1
    return dict(counts)


def _chunks(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    left = iter(entries)
    while chunk := list(islice(left, _CHUNK)):
        yield chunk


def _day_of(entry: Entry) -> date:
    return _date(int(entry.id.partition("-")[0]) // _DAY_MS)


def _date(day: int) -> date:
    return datetime(1970, 1, 1, tzinfo=UTC).date() + timedelta(days=day)
