"""The view that readers have of the Parquet tables: the rows of one table, one row per `id`.

The sink writes at least once, and a caller may send an event again, so that files may repeat an id.
Rows with one id become one row: the one with the earliest `ts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.tables.database import DataError
from analysis.tables.schemas import OPTIONAL, SCHEMAS, without_optional
from contract.command_line import one_line
from contract.files import BadFileError


def rows(
    connection: duckdb.DuckDBPyConnection, folder: Path, table: str, columns: Sequence[str] | None = None
) -> duckdb.DuckDBPyRelation:
    """Return the rows of a table without repeats; no file of the table yet gives no rows.

    The relation is computed at each use: create a table of it if it is used twice.

    Args:
        connection: reads the files.
        folder: of the sink (`--out`).
        table: exposures, activity or rankings.
        columns: those to read, with id and ts; None: all. A ranking's items are most of its bytes.

    Raises:
        BadFileError: a file is damaged or has other columns.
    """
    names, schema = list(columns or SCHEMAS[table].names), SCHEMAS[table]
    files = table_files(folder, table)
    if not files:
        return connection.from_arrow(schema.empty_table().select(names))
    for file in files:
        check(file, schema)
    everything = connection.read_parquet([str(file) for file in files], union_by_name=True, hive_partitioning=False)
    wanted = [name if name in everything.columns else OPTIONAL.get(name, name) for name in names]
    return connection.sql(without_repeats(everything.project(", ".join(wanted)).sql_query(), names))


def table_files(folder: Path, table: str) -> list[Path]:
    """Return the complete files of a table; a file that is being written has another suffix."""
    return sorted((folder / table).glob("date=*/*.parquet"))


def check(path: Path, schema: pa.Schema) -> None:
    """Read the end of a Parquet file, which has its columns and is missing in a truncated file.

    Raises:
        BadFileError: it is damaged or has other columns.
    """
    try:
        found = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise BadFileError(f"{path}: not a whole Parquet file: {one_line(str(error))}") from None
    if not found.equals(schema) and not found.equals(without_optional(schema)):
        different = [field.name for field in schema if field not in found] or found.names
        raise BadFileError(f"{path}: its columns are not those of {path.parent.parent.name}: {', '.join(different)}")


@contextmanager
def damage_named(folder: Path) -> Iterator[None]:
    """Name the damaged file if reading fails: DuckDB does not always name it.

    Raises:
        BadFileError: instead of a `DataError`, if a file of the tables cannot be read.
    """
    try:
        yield
    except DataError as error:
        for file in [file for table in SCHEMAS for file in table_files(folder, table)]:
            if not _is_readable(file):
                raise BadFileError(f"{file}: damaged: {error}") from None
        raise


def _is_readable(file: Path) -> bool:
    with duckdb.connect() as connection:
        try:
            connection.execute("SELECT max(hash(one)) FROM read_parquet(?) AS one", [str(file)])
        except duckdb.Error:
            return False
    return True


def without_repeats(query: str, columns: list[str]) -> str:
    """Return a query for the rows of another one, of which each id keeps the row with the earliest `ts`.

    Ids are compared by their 64-bit hash first, which takes a third of the memory; only rows whose hash repeats are
    ordered. Rows that differ although id and time are equal are ordered by their text, so that the result does not
    depend on the order of the files.
    """
    names = ", ".join(columns)
    return f"""
        WITH repeated AS MATERIALIZED (SELECT hash(id) AS h FROM ({query}) GROUP BY h HAVING count(*) > 1)
        SELECT {names} FROM ({query}) WHERE hash(id) NOT IN (FROM repeated)
        UNION ALL
        (SELECT {names} FROM ({query}) AS one WHERE hash(id) IN (FROM repeated)
         QUALIFY row_number() OVER (PARTITION BY id ORDER BY ts, one::VARCHAR) = 1)
    """
