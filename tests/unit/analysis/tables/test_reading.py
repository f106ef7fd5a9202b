from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.tables.reading import rows
from analysis.tables.schemas import SCHEMAS
from contract.files import BadFileError

SCHEMA = SCHEMAS["activity"]


def write(folder: Path, name: str, *events: dict[str, Any]) -> Path:
    path = folder / "activity" / "date=2026-11-25" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(events), SCHEMA), path)
    return path


def read(folder: Path, what: str = "id, ts, unit") -> list[tuple[Any, ...]]:
    relation = rows(duckdb.connect(), folder, "activity")
    assert relation.columns == SCHEMA.names
    return relation.project(what).order("id").fetchall()


def test_a_table_without_files_has_its_columns_and_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path) == []


def test_of_rows_with_one_id_the_earliest_is_kept(tmp_path: Path) -> None:
    write(tmp_path, "1.parquet", {"id": "a", "ts": 5, "unit": "late"}, {"id": "b", "ts": 1, "unit": "u"})
    write(tmp_path, "2.parquet", {"id": "a", "ts": 3, "unit": "early"}, {"id": "a", "ts": 3, "unit": "early"})
    assert read(tmp_path) == [("a", 3, "early"), ("b", 1, "u")]


@pytest.mark.parametrize("first", [0, 1])
def test_which_row_is_kept_does_not_depend_on_the_order_of_files(tmp_path: Path, first: int) -> None:
    write(tmp_path, f"{first}.parquet", {"id": "a", "ts": 5, "unit": "x"})
    write(tmp_path, f"{1 - first}.parquet", {"id": "a", "ts": 5, "unit": "y"})
    assert read(tmp_path) == [("a", 5, "x")]


@pytest.mark.parametrize("length", [0, 3, 100, -1])
def test_a_truncated_file_is_named(tmp_path: Path, length: int) -> None:
    path = write(tmp_path, "1.parquet", {"id": "a", "ts": 5})
    write(tmp_path, "0.parquet", {"id": "b", "ts": 5})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BadFileError, match=rf"^{path}: not a whole Parquet file"):
        read(tmp_path)


def test_a_file_with_other_columns_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "1.parquet", {"id": "a", "ts": 5})
    pq.write_table(pa.table({"id": ["a"], "ts": ["then"]}), path)
    with pytest.raises(BadFileError, match=rf"^{path}: its columns are not those of activity: ts, received, clamped"):
        read(tmp_path)


def test_a_file_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, "1.parquet", {"id": "a", "ts": 5})
    path.rename(path.with_name("1.parquet.partial"))
    assert read(tmp_path) == []
