import json
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from analysis.sink import compaction
from analysis.sink.compaction import compact
from analysis.sink.events import ACTIVITY, EXPOSURES, RANKINGS, Reader
from analysis.sink.files import Files
from analysis.sink.lock import locked
from analysis.sink.source import Entry
from analysis.tables.database import Resources
from analysis.tables.reading import rows
from analysis.tables.schemas import SCHEMAS, without_optional
from contract.command_line import CommandError
from contract.files import BadFileError
from tests.support.sink_process import NOON, activity, exposure, files, ranking, written

DAY = 86_400_000
NEXT_DAY = date(2026, 11, 26)
SMALL = Resources(memory="200MB", threads=1)


def fill(folder: Path) -> None:
    """Six files of activity on one day and one on the day before; ids 4 and 5 twice; three files of exposures."""
    table = Files(folder, Reader(ACTIVITY), "sink")
    for place, numbers in enumerate([(0, 1), (2, 3), (4, 5), (4, 5), (6,), (7,)]):
        table.write([Entry(f"{NOON + place}-{number}", activity(number)) for number in numbers])
    table.write([Entry(f"{NOON}-99", activity(99, NOON - DAY))])
    for number in range(3):
        Files(folder, Reader(EXPOSURES), "sink").write([Entry(f"{NOON}-{number}", exposure(number))])


def read(folder: Path, table: str = "activity") -> list[tuple[Any, ...]]:
    return rows(duckdb.connect(), folder, table).order("id").fetchall()


def test_a_day_becomes_one_file_without_repeats_and_readers_see_the_same_rows(tmp_path: Path) -> None:
    fill(tmp_path)
    before = read(tmp_path), read(tmp_path, "exposures")
    merged = compact(tmp_path, SMALL, NEXT_DAY)
    assert [(one.files, one.rows) for one in merged] == [(3, 3), (6, 8)]
    assert (read(tmp_path), read(tmp_path, "exposures")) == before
    assert written(tmp_path) == (9, 9)
    assert [len(list(folder.iterdir())) for folder in sorted((tmp_path / "activity").iterdir())] == [1, 1]
    assert pq.read_schema(merged[1].path).equals(SCHEMAS["activity"])
    assert compact(tmp_path, SMALL, NEXT_DAY) == []


def test_columns_of_rules_are_in_a_merged_file_only_if_a_row_has_rules(tmp_path: Path) -> None:
    table = Files(tmp_path, Reader(RANKINGS), "sink")
    ruled = json.dumps(json.loads(ranking(2)) | {"rules": "spread", "moved": {"age_limit": 3}}).encode()
    for number, event in enumerate((ranking(1), ruled)):
        table.write([Entry(f"{NOON}-{number}", event)])
    for number in range(2):
        table.write([Entry(f"{NOON - DAY}-{number}", ranking(number + 3, NOON - DAY))])
    before = read(tmp_path, "rankings")
    earlier = without_optional(SCHEMAS["rankings"])
    schemas = [pq.read_schema(file) for file in files(tmp_path, "rankings")]
    assert [one.equals(earlier) for one in schemas] == [True, True, True, False]
    merged = compact(tmp_path, SMALL, NEXT_DAY)
    schemas = [pq.read_schema(one.path) for one in merged]
    assert [one.equals(earlier) for one in schemas] == [True, False]
    assert read(tmp_path, "rankings") == before
    assert [row[-2:] for row in before if row[-2]] == [("spread", [{"rule": "age_limit", "items": 3}])]
    only_before = [row[-2:] for row in read(_of_day_before(tmp_path), "rankings")]
    assert only_before == [(None, None), (None, None)]


def _of_day_before(folder: Path) -> Path:
    """Return a folder with only the earlier day, none of whose files has the columns."""
    day, other = sorted((folder / "rankings").iterdir())[0], folder / "other"
    (other / "rankings").mkdir(parents=True)
    day.rename(other / "rankings" / day.name)
    return other


def test_today_is_left_as_it_is(tmp_path: Path) -> None:
    fill(tmp_path)
    there = files(tmp_path)
    assert compact(tmp_path, SMALL, date(2026, 11, 25)) == []
    assert files(tmp_path) == there


def test_a_crash_after_the_merge_leaves_repeats_that_the_next_run_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    before = read(tmp_path)

    def crash(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(compaction.Path, "unlink", crash)
        with pytest.raises(KeyboardInterrupt):
            compact(tmp_path, SMALL, NEXT_DAY)
    half = files(tmp_path)[0].with_name("merged_0.parquet.compact.partial")
    half.write_bytes(b"half")
    compact(tmp_path, SMALL, NEXT_DAY)
    assert not half.exists()
    assert read(tmp_path) == before
    assert written(tmp_path) == (9, 9)


def test_a_damaged_file_is_named_and_its_day_is_not_touched(tmp_path: Path) -> None:
    fill(tmp_path)
    damaged = files(tmp_path)[-1]
    damaged.write_bytes(damaged.read_bytes()[:99])
    there = files(tmp_path)
    with pytest.raises(BadFileError, match=damaged.name):
        compact(tmp_path, SMALL, NEXT_DAY)
    assert files(tmp_path) == there


def test_two_cannot_compact_a_folder_at_the_same_time(tmp_path: Path) -> None:
    with locked(tmp_path, "compact", "taken"), pytest.raises(CommandError, match="another process compacts"):
        compact(tmp_path, SMALL)
