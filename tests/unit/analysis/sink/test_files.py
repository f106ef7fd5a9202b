import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from analysis.sink import durable as module
from analysis.sink.events import ACTIVITY, Reader
from analysis.sink.files import Files
from analysis.sink.source import Entry
from tests.support.sink_process import NOON, activity, files

DAY = 86_400_000


def entries(*events: bytes | None) -> list[Entry]:
    return [Entry(f"{NOON + number}-0", event) for number, event in enumerate(events)]


def content(out: Path) -> dict[str, list[str]]:
    return {str(file.relative_to(out)): pq.read_table(file)["id"].to_pylist() for file in files(out)}


@pytest.fixture
def table(tmp_path: Path) -> Files:
    return Files(tmp_path, Reader(ACTIVITY), "sink")


def test_rows_are_in_the_folder_of_the_servers_date_in_utc(tmp_path: Path, table: Files) -> None:
    batch = entries(activity(1), activity(2, NOON - DAY), activity(3))
    done = table.write(batch)
    assert (done.rows, done.files, done.rejected, done.lost) == (3, 2, {}, 0)
    assert done.bytes == sum(file.stat().st_size for file in files(tmp_path))
    assert [(name.split("/")[1], len(ids)) for name, ids in content(tmp_path).items()] == [
        ("date=2026-11-24", 1),
        ("date=2026-11-25", 2),
    ]
    assert pq.ParquetFile(files(tmp_path)[0]).metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_batch_that_is_written_again_is_the_same_file(tmp_path: Path, table: Files) -> None:
    batch = entries(activity(1), b"no", activity(2))
    table.write(batch)
    before = content(tmp_path), (rejected(tmp_path))
    assert table.write(batch).rows == 2
    assert (content(tmp_path), rejected(tmp_path)) == before


def test_other_entries_get_another_name_even_between_the_same_ends(tmp_path: Path, table: Files) -> None:
    batch = entries(activity(1), activity(2), activity(3))
    table.write(batch)
    table.write([batch[0], batch[2]])
    assert len(files(tmp_path)) == 2


def test_rows_that_are_on_disk_stay_when_their_entries_are_trimmed_before_the_acknowledgement(
    tmp_path: Path, table: Files
) -> None:
    batch = entries(activity(1), b"no", activity(2))
    table.write(batch)
    before = content(tmp_path), rejected(tmp_path)
    done = table.write([batch[0], Entry(batch[1].id, None), Entry(batch[2].id, None)])
    assert done.lost == 0
    assert (content(tmp_path), rejected(tmp_path)) == before


def test_entries_that_are_trimmed_before_they_were_written_are_counted(tmp_path: Path, table: Files) -> None:
    done = table.write(entries(activity(1), None, None))
    assert (done.rows, done.lost) == (1, 2)


def test_a_file_that_a_crash_has_damaged_is_written_again(tmp_path: Path, table: Files) -> None:
    batch = entries(activity(1))
    table.write(batch)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:50])
    table.write(batch)
    assert file.read_bytes() == whole


def rejected(out: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in sorted(out.glob("rejected/activity/date=2026-11-25/*.jsonl"))
        for line in file.read_text().splitlines()
    ]


def test_a_damaged_event_is_kept_as_it_came_with_its_reason(tmp_path: Path, table: Files) -> None:
    done = table.write(entries(b'{"v": 9}', activity(1), b"\xff"))
    assert (done.rows, done.rejected) == (1, {"version": 1, "json": 1})
    assert rejected(tmp_path) == [
        {"entry": f"{NOON}-0", "kind": "version", "reason": "unknown version: 9", "event": '{"v": 9}'},
        {"entry": f"{NOON + 2}-0", "kind": "json", "reason": rejected(tmp_path)[1]["reason"], "event_base64": "/w=="},
    ]


@pytest.mark.parametrize("value", [-(10**30), 10**400])
def test_an_event_whose_number_no_table_takes_is_kept_too_and_the_others_are_written(
    tmp_path: Path, table: Files, value: int
) -> None:
    wrong = json.dumps(json.loads(activity(2)) | {"value": value}).encode()
    done = table.write(entries(activity(1), wrong, activity(3)))
    assert (done.rows, done.rejected) == (2, {"type": 1})
    assert table.write(entries(wrong)).files == 1  # no table of no rows
    [line, _] = rejected(tmp_path)
    assert json.loads(line["event"])["value"] == value


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path, table: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        table.write(entries(activity(1)))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_incomplete_files_of_an_earlier_run_are_removed_and_those_of_other_sinks_stay(
    tmp_path: Path, table: Files
) -> None:
    table.write(entries(activity(1)))
    folder = files(tmp_path)[0].parent
    for name in ("x.parquet.sink.partial", "x.parquet.other.partial"):
        (folder / name).write_bytes(b"half")
    Files(tmp_path, Reader(ACTIVITY), "sink")
    assert [path.name for path in folder.glob("*.partial")] == ["x.parquet.other.partial"]
