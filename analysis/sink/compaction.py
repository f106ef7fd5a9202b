"""Small files of past days merged into one file a day, without repeats.

The merged file has its name before the small ones are removed. A crash between the two leaves repeats, which readers
drop and the next run removes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.sink.durable import PARTIAL, sync_folders, write_durably
from analysis.sink.lock import locked
from analysis.tables.database import Database, Resources, database, explained
from analysis.tables.reading import check, table_files, without_repeats
from analysis.tables.schemas import SCHEMAS, without_optional
from contract.progress import Progress

_WRITER: Final = "compact"


class Merged(NamedTuple):
    """Result for one day of a table."""

    path: Path
    files: int
    rows: int


def compact(folder: Path, resources: Resources, today: date | None = None) -> list[Merged]:
    """Merge the files of each table and past day; days with one file are left as they are.

    Raises:
        BadFileError: a file is damaged; its day is not touched.
        CommandError: another process compacts this folder, or memory or disk are full.
    """
    before = today or datetime.now(UTC).date()
    with locked(folder, "compact", "another process compacts this folder"), database(resources) as opened:
        for leftover in folder.glob(f"*/date=*/*.{_WRITER}{PARTIAL}"):
            leftover.unlink()
        days = [
            (table, files)
            for table in SCHEMAS
            for day, files in _days(table_files(folder, table)).items()
            if day < f"date={before}" and len(files) > 1
        ]
        return _merge_all(opened, days)


def _merge_all(opened: Database, days: Sequence[tuple[str, list[Path]]]) -> list[Merged]:
    sizes = [sum(file.stat().st_size for file in files) for _, files in days]
    merged = []
    with Progress("compacting", sum(sizes)) as progress:
        for (table, files), size in zip(days, sizes, strict=True):
            merged.append(_merge(opened, table, files))
            progress.advance(size, f"{table} {merged[-1].path.parent.name}")
    return merged


def _days(files: Sequence[Path]) -> dict[str, list[Path]]:
    days: dict[str, list[Path]] = {}
    for file in files:
        days.setdefault(file.parent.name, []).append(file)
    return days


def _merge(opened: Database, table: str, files: list[Path]) -> Merged:
    for file in files:
        check(file, SCHEMAS[table])
    schema = _schema(table, files)
    digest = sha256(" ".join(file.name for file in files).encode()).hexdigest()
    path = files[0].with_name(f"merged_{digest[:12]}.parquet")
    rows = _write(opened, schema, files, path)
    for file in files:
        file.unlink()
    sync_folders(path)
    return Merged(path, len(files), rows)


def _schema(table: str, files: Sequence[Path]) -> pa.Schema:
    """Return the columns of the merged file: the optional ones only if a file has them."""
    whole = SCHEMAS[table]
    return whole if any(pq.read_schema(file).equals(whole) for file in files) else without_optional(whole)


def _write(opened: Database, schema: pa.Schema, files: list[Path], path: Path) -> int:
    paths = [str(file) for file in files]
    everything = opened.connection.read_parquet(paths, hive_partitioning=False, union_by_name=True)
    query = without_repeats(everything.sql_query(), schema.names)
    rows = 0
    with explained():
        batches = opened.connection.sql(f"FROM ({query}) ORDER BY ts, id").to_arrow_reader(50_000)

        def write(file: pa.NativeFile) -> None:
            nonlocal rows
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch.cast(schema))
                    rows += batch.num_rows

        write_durably(path, _WRITER, write)
    sync_folders(path)
    return rows
