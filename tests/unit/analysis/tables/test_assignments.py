from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analysis.sink.events import EXPOSURES, Reader
from analysis.sink.files import Files
from analysis.sink.source import Entry
from tests.support.sink_process import NOON, ROOT, exposure

SQL = (ROOT / "analysis" / "tables" / "assignments.sql").read_text(encoding="utf-8")


@pytest.fixture
def connection(tmp_path: Path) -> duckdb.DuckDBPyConnection:
    """The view over files of the sink, made as the file explains it."""
    events = [exposure(1), exposure(2), exposure(1), exposure(3).replace(b'"forced":0', b'"forced":1'),
              exposure(1, NOON + 1)]  # fmt: skip
    entries = [Entry(f"{NOON}-{number}", event) for number, event in enumerate(events)]
    table = Files(tmp_path, Reader(EXPOSURES), "sink")
    table.write(entries[:2])
    table.write(entries[2:])
    made = duckdb.connect()
    [create] = [line.removeprefix("--   ") for line in SQL.splitlines() if line.startswith("--   CREATE VIEW")]
    made.execute(create.replace("events/", f"{tmp_path}/"))
    made.execute(SQL)
    return made


def rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query).fetchall()


def test_the_view_has_each_unforced_exposure_once(connection: duckdb.DuckDBPyConnection) -> None:
    moment = datetime(2026, 11, 25, 12)  # noqa: DTZ001 - TIMESTAMP has no zone
    assert rows(connection, "SELECT unit, ts, experiment, variation FROM assignments ORDER BY unit, ts") == [
        ("u1", moment, "pyramid-vs-mgnm", "control"),
        ("u1", moment.replace(microsecond=1_000), "pyramid-vs-mgnm", "control"),
        ("u2", moment, "pyramid-vs-mgnm", "control"),
    ]


def test_every_query_of_the_page_for_other_tools_runs_and_has_the_columns_of_the_tool(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    page = (ROOT / "docs" / "sink.md").read_text(encoding="utf-8").split("## Other tools")[1]
    queries = [block.split("```")[0] for block in page.split("```sql\n")[1:]]
    columns = [[column[0] for column in connection.execute(query).description or ()] for query in queries]
    assert columns == [
        ["user_id", "timestamp", "experiment_id", "variation_id"],
        ["user_id", "assigned_at", "experiment_key", "variant"],
        ["user_id", "ts", "experiment_id", "group_id"],
    ]
    assert all(len(rows(connection, query)) == 3 for query in queries)
