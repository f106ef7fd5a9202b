"""DuckDB as the analysis uses it: bounded memory, a folder for what does not fit, progress, and errors in one line."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import pyarrow as pa

from contract.command_line import CommandError, one_line

Progress = Callable[[str, float], None]
"""Called with the name of a stage and the share of it that is done, 0 to 1."""

_POLL_SECONDS: Final = 0.25
_OF_FILES: Final = (duckdb.Error, duckdb.IOException, duckdb.InvalidInputException, duckdb.ConversionException)
"""Exactly these classes: the first one is for damage that DuckDB has no class for, others below it are bugs."""


_VALUE: Final = re.compile(r"\b(value|string) (['\"]).*\2( is| to)\b", re.DOTALL)
"""A value of a file in a message of DuckDB: it may be a user's id, and messages are logged."""


class DataError(CommandError):
    """DuckDB could not read a file, or the disk is full."""


@dataclass(frozen=True)
class Resources:
    """The memory, threads and disk that a computation may use.

    Args:
        memory: of DuckDB, as `2GB`; what does not fit goes to the temporary folder. The process takes 300 MB more.
        threads: of DuckDB; None: one per core. They change the time, never a result.
        folder: for temporary files; None: the system's.
    """

    memory: str = "1600MB"
    threads: int | None = None
    folder: str | None = None


class Database:
    """A connection whose statements report progress."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, progress: Progress | None = None) -> None:
        self.connection = connection
        self._progress = progress

    def run(self, stage: str, *statements: str) -> None:
        """Execute statements, one after the other.

        Raises:
            CommandError: the disk or the memory is full, or a file is damaged.
        """
        with self._shown(stage), explained():
            for statement in statements:
                self.connection.execute(statement)

    def table(self, stage: str, query: str) -> pa.Table:
        """Return the rows of a query."""
        with self._shown(stage), explained():
            return self.connection.sql(query).to_arrow_table()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a short query; Any: the query determines the types."""
        with explained():
            return self.connection.execute(query).fetchall()

    def value(self, query: str) -> Any:
        """Return the only value of a query."""
        return self.rows(query)[0][0]

    @contextmanager
    def _shown(self, stage: str) -> Iterator[None]:
        if self._progress is None:
            yield
            return
        ended = threading.Event()
        poller = threading.Thread(target=self._poll, args=(stage, self._progress, ended), daemon=True)
        self._progress(stage, 0.0)
        poller.start()
        try:
            yield
        finally:
            ended.set()
            poller.join()
        self._progress(stage, 1.0)

    def _poll(self, stage: str, progress: Progress, ended: threading.Event) -> None:
        while not ended.wait(_POLL_SECONDS):
            percent = self.connection.query_progress()
            if percent >= 0:
                progress(stage, min(percent / 100, 1.0))


@contextmanager
def database(resources: Resources, progress: Progress | None = None) -> Iterator[Database]:
    """Open an empty database with a temporary folder of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="analysis-", dir=resources.folder) as folder,
        duckdb.connect() as connection,
    ):
        settings = {
            "memory_limit": quoted(resources.memory),
            "temp_directory": quoted(folder),
            "preserve_insertion_order": "false",  # every output is sorted
            "enable_progress_bar": "true",  # DuckDB computes its progress only then
        }
        if resources.threads is not None:
            settings["threads"] = str(resources.threads)
        with explained():
            for name, value in settings.items():
                connection.execute(f"SET {name} = {value}")
            connection.execute("SET enable_progress_bar_print = false")
        yield Database(connection, progress)


@contextmanager
def explained() -> Iterator[None]:
    """Turn the errors of DuckDB that files and machines can cause into a `CommandError`."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise CommandError(f"not enough memory; give more with --memory: {one_line(str(error))}") from None
    except duckdb.Error as error:
        if type(error) not in _OF_FILES:
            raise
        raise DataError(one_line(_VALUE.sub(r"\1 ...\3", str(error)))) from None


def quoted(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def column(name: str) -> str:
    """Return a name as an SQL identifier: `like` is also a word of SQL."""
    return f'"{name}"'
