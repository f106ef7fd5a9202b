"""Which rows remain of a log on disk: as `keep.py`, but by DuckDB, whose memory is bounded.

The distinct ids, the facts about items and counts of users and items stay in memory, the rows do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from contract.progress import Progress
from training.data.attributes import Numbering
from training.data.datasets.interactions import DataError
from training.data.files.large_log import LargeLog
from training.data.files.spill import attribute_column
from training.data.keep import IMPRESSION, POSITIVE
from training.data.kept import REQUEST, Column, Columns, Kept, with_new
from training.data.known import Known
from training.data.plausibility import dropped_rows

MEMORY: Final = "512MB"  # of DuckDB; more is written to disk
_BATCH: Final = 262_144  # rows read back at once
_BELOW_CORE: Final = "SELECT {0} FROM kept GROUP BY {0} HAVING count(*) < {1}"


def keep_large(raw: LargeLog, core: int, known: Known) -> Kept:
    """Drop repeats, then actions that are not trained on, then rows below the core; order the rest.

    Raises:
        DataError: nothing is left.
    """
    folder = raw.rows.path.parent
    with duckdb.connect(str(folder / "rows.duckdb")) as connection:
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute(f"SET temp_directory = {_quoted(folder / 'sorting')}")
        connection.execute("SET preserve_insertion_order = false")
        return _Large(raw, connection, core, known).kept(folder)


class _Large:
    """The tables of one log: first (no repeats), taken (behaviours), kept (above the core)."""

    def __init__(self, raw: LargeLog, connection: duckdb.DuckDBPyConnection, core: int, known: Known) -> None:
        self._raw, self._db, self._core, self._known = raw, connection, core, known

    def kept(self, folder: Path) -> Kept:
        """Return the rows; they are in files of the folder, ordered."""
        with Progress("ordering on disk", 3) as progress:
            return self._kept(folder, progress)

    def _kept(self, folder: Path, progress: Progress) -> Kept:
        self._make_tables()
        progress.advance(1, "repeats dropped")
        first, taken, shown = self._count("first"), self._count("taken"), self._count("shown")
        self._filter()
        progress.advance(1, "filtered")
        rows = self._count("kept")
        if not rows:
            raise DataError(f"{self._raw.source}: no user and item has {self._core} interactions; try a smaller --core")
        user_ids, users = self._places("u", self._raw.users, self._known.users)
        item_ids, items = self._places("i", self._raw.items, self._known.items)
        self._write_ordered(folder, users, items)
        progress.advance(1, "ordered")
        dropped = dropped_rows(
            self._raw.read, repeats=self._raw.rows.rows - first, impressions=shown, actions=first - taken - shown,
            core=taken - rows,
        )  # fmt: skip
        coded, texts = self._numberings()
        impressions = (lambda: _numbered(_batches(folder / "shown.parquet"), coded)) if shown else None

        def ordered() -> Iterator[Columns]:
            return _numbered(_whole_users(folder / "ordered.parquet"), coded)

        return Kept(user_ids, item_ids, dropped, ordered, impressions, attributes=texts)

    def _numberings(self) -> tuple[dict[str, tuple[str, Numbering]], dict[str, tuple[str, ...]]]:
        """Return the final codes of each column of attributes, with its final name, and the texts by attribute."""
        found = {name: one.numbered(self._known.attributes.get(name, ())) for name, one in self._raw.attributes.items()}
        columns = zip(self._attributes, found.items(), strict=True)
        coded = {column: (f"{REQUEST}{name}", one) for column, (name, one) in columns}
        return coded, {name: one.texts for name, one in found.items()}

    @property
    def _attributes(self) -> list[str]:
        return [attribute_column(place) for place in range(len(self._raw.attributes))]

    def _with_attributes(self, pattern: str = ", {}") -> str:
        """Return the columns of attributes, each written by the pattern."""
        return "".join(pattern.format(column, column) for column in self._attributes)

    def _make_tables(self) -> None:
        path = _quoted(self._raw.rows.path)
        rows = f"SELECT file_row_number AS seq, * FROM read_parquet({path}, file_row_number = true)"
        first = self._with_attributes(", arg_min({}, seq) AS {}")
        self._db.execute(
            f"CREATE TABLE first AS SELECT min(seq) AS seq, u, i, t, a, p, v{first} FROM ({rows}) "
            "GROUP BY u, i, t, a, p, v"
        )
        self._db.execute(f"CREATE VIEW taken AS SELECT * FROM first WHERE a IN {POSITIVE}")
        more = self._with_attributes()
        self._db.execute(f"CREATE VIEW shown AS SELECT seq, u, i, t{more} FROM first WHERE a = {IMPRESSION}")

    def _filter(self) -> None:
        """Make the table of rows whose users and items have enough rows, repeated until nothing changes."""
        self._db.execute("CREATE TABLE kept AS SELECT * FROM taken")
        before = -1
        while self._core > 1 and before != self._count("kept"):
            before = self._count("kept")
            for name in ("u", "i"):
                self._db.execute(f"CREATE OR REPLACE TEMP TABLE few_{name} AS {_BELOW_CORE.format(name, self._core)}")
            self._db.execute("DELETE FROM kept WHERE u IN (SELECT u FROM few_u) OR i IN (SELECT i FROM few_i)")

    def _places(self, column: str, names: list[str], known: Sequence[str]) -> tuple[list[str], Column]:
        """Return the ids that remain, and the place of each code among them, -1 if it has none.

        Without a filter, every user with an impression is a user.
        """
        ids, _ = with_new(names, self._codes(f"SELECT DISTINCT {column} FROM kept ORDER BY 1"), known)
        if self._core <= 1:
            ids, _ = with_new(names, self._codes(f"SELECT DISTINCT {column} FROM shown ORDER BY 1"), ids)
        place = {name: place for place, name in enumerate(ids)}
        return ids, np.fromiter((place.get(name, -1) for name in names), dtype=np.int64, count=len(names))

    def _write_ordered(self, folder: Path, users: Column, items: Column) -> None:
        for name, places in (("users", users), ("items", items)):
            found = np.flatnonzero(places >= 0)
            self._db.register(name, pa.table({"code": found.astype(np.int32), "place": places[found]}))
        more = self._with_attributes()
        joined = "JOIN users ON users.code = u JOIN items ON items.code = i"
        self._copy(
            f"SELECT users.place AS users, items.place + 1 AS items, t AS times_ms, a::BIGINT AS actions, "
            f"v::BIGINT AS values, p::BIGINT AS plays, 0::BIGINT AS context{more} FROM kept {joined} "
            f"ORDER BY users.place, t, seq",
            folder / "ordered.parquet",
        )
        if self._raw.has_impressions:
            self._copy(
                f"SELECT users.place AS users, items.place + 1 AS items, t AS times_ms, labels{more} "
                f"FROM ({self._labelled()}) {joined} ORDER BY t, seq",
                folder / "shown.parquet",
            )

    def _labelled(self) -> str:
        """Return the query of impressions with their labels: the next behaviour of the user with the item counts."""
        return (
            "SELECT s.*, coalesce(n.t - s.t <= "
            f"{self._raw.window_ms}, false)::BIGINT AS labels "
            "FROM shown s ASOF LEFT JOIN taken n ON s.u = n.u AND s.i = n.i AND s.t <= n.t"
        )

    def _copy(self, query: str, path: Path) -> None:
        self._db.execute(f"COPY ({query}) TO {_quoted(path)} (FORMAT parquet, ROW_GROUP_SIZE {_BATCH})")

    def _count(self, table: str) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])

    def _codes(self, query: str) -> NDArray[np.int32]:
        found = self._db.execute(query).fetchnumpy()
        return np.asarray(next(iter(found.values())), dtype=np.int32)


def _quoted(path: Path) -> str:
    """Return a path as a text of SQL."""
    return "'{}'".format(str(path).replace("'", "''"))


def _batches(path: Path) -> Iterator[Columns]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH):
            yield {name: batch.column(name).to_numpy() for name in batch.schema.names}


def _numbered(batches: Iterator[Columns], coded: dict[str, tuple[str, Numbering]]) -> Iterator[Columns]:
    """Yield the batches with final names and codes of attributes."""
    for batch in batches:
        yield {
            coded[name][0] if name in coded else name: coded[name][1].codes(column) if name in coded else column
            for name, column in batch.items()
        }


def _whole_users(path: Path) -> Iterator[Columns]:
    """Yield the rows in batches that end with the last row of a user."""
    rest: Columns | None = None
    for batch in _batches(path):
        if rest is not None:
            batch = {name: np.concatenate((rest[name], column)) for name, column in batch.items()}
        end = int(np.searchsorted(batch["users"], batch["users"][-1]))
        if end:
            yield {name: column[:end] for name, column in batch.items()}
        rest = {name: column[end:] for name, column in batch.items()}
    if rest is not None:
        yield rest
