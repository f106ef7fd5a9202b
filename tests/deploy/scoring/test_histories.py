from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.behaviours.actions import ACTION_CODES
from contract.behaviours.records import item_keys, unpack
from deploy.scoring import histories
from deploy.scoring.histories import HistoriesError, write_histories

HEADER = "user_id,item_id,ts,action,play_ms,value"
ROWS = [
    "b,i1,2000000000000,play,1500,",
    "a,i2,1900000000000,rate,,4.5",
    "b,i3,1800000000000,,,",
    "a,i3,1900000000000,click,,",
    'é,"i,4",1900000000000,like,,',
    "b,i2,1700000000000,click,,",
]


def _csv(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "behaviours.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return path


def _read(folder: Path) -> dict[str, list[tuple[int, int]]]:
    """Return each user's items and times."""
    table = pa.concat_tables([pq.read_table(part) for part in sorted(folder.glob("*.parquet"))])
    found = {}
    for row in table.to_pylist():
        records = unpack([row["records"]])
        assert records.corrupt == [0]
        assert row["user_id"] not in found
        found[row["user_id"]] = list(
            zip(records.records["item"].tolist(), records.records["time_ms"].tolist(), strict=True)
        )
    return found


def _key(item: str) -> int:
    return int(item_keys([item])[0])


def _expected() -> dict[str, list[tuple[int, int]]]:
    return {
        "a": [(_key("i2"), 1_900_000_000_000), (_key("i3"), 1_900_000_000_000)],
        "b": [(_key(item), time * 10**11) for item, time in (("i2", 17), ("i3", 18), ("i1", 20))],
        "é": [(_key("i,4"), 1_900_000_000_000)],
    }


@pytest.mark.parametrize("rows_at_once", [1, 2, 500_000])
def test_a_history_is_a_user_s_behaviours_by_time_as_the_store_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(histories, "_ROWS", rows_at_once)
    assert write_histories(_csv(tmp_path, *ROWS), tmp_path / "out", users_a_part=2) == 3
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 2
    assert _read(tmp_path / "out") == _expected()


def test_parquet_gives_the_histories_of_csv(tmp_path: Path) -> None:
    cells = [row.replace('"i,4"', "i;4").split(",") for row in ROWS]
    columns = dict(zip(HEADER.split(","), zip(*cells, strict=True), strict=True))
    table = pa.table(
        {
            "user_id": list(columns["user_id"]),
            "item_id": [item.replace(";", ",") for item in columns["item_id"]],
            "ts": [int(time) for time in columns["ts"]],
            "action": [action or None for action in columns["action"]],
            "play_ms": [int(play) if play else None for play in columns["play_ms"]],
            "value": [float(value) if value else None for value in columns["value"]],
        }
    )
    (tmp_path / "log").mkdir()
    pq.write_table(table.slice(0, 3), tmp_path / "log" / "0.parquet")
    pq.write_table(table.slice(3), tmp_path / "log" / "1.parquet")
    write_histories(tmp_path / "log", tmp_path / "out")
    assert _read(tmp_path / "out") == _expected()


def test_user_and_item_are_names_of_columns_too(tmp_path: Path) -> None:
    header = HEADER.replace("user_id", "user").replace("item_id", "item")
    write_histories(_csv(tmp_path, *ROWS, header=header), tmp_path / "out")
    assert _read(tmp_path / "out") == _expected()


def test_actions_play_times_and_values_are_kept(tmp_path: Path) -> None:
    write_histories(_csv(tmp_path, *ROWS), tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "000000.parquet")
    a, b, _ = (unpack([value]).records for value in table["records"].to_pylist())
    assert a["action"].tolist() == [ACTION_CODES["rate"], ACTION_CODES["click"]]
    assert a["value"].tolist() == [45, 0]
    assert b["play_ms"].tolist() == [0, 0, 1500]


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        ([], HEADER, "no behaviours"),
        (["a,i1,2000000000000"], "user,thing,ts", "item_id is missing"),
        (["a,i1,soon,click,,"], HEADER, "soon"),
        (["a,i1,-5,click,,"], HEADER, "ts: a value is missing, or is not from 0"),
        (["a,i1,2000000000000,stare,,"], HEADER, "'stare' is not one of"),
        (["a,i1,2000000000000,rate,,99"], HEADER, "value: a value is missing, or is not from 0 to 25.5"),
    ],
)
def test_behaviours_that_cannot_be_stored_are_refused_by_name(
    tmp_path: Path, rows: list[str], header: str, words: str
) -> None:
    with pytest.raises(HistoriesError, match=r"behaviours\.csv") as refusal:
        write_histories(_csv(tmp_path, *rows, header=header), tmp_path / "out")
    assert words in str(refusal.value)


def test_histories_of_many_users_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "_ROWS", 97)
    rng = np.random.default_rng(0)
    users = rng.integers(0, 40, 1_000)
    rows = [f"u{user},i{place},{1_700_000_000_000 + place},click,," for place, user in enumerate(users)]
    write_histories(_csv(tmp_path, *rows), tmp_path / "out", users_a_part=7)
    found = _read(tmp_path / "out")
    assert {user: len(items) for user, items in found.items()} == {
        f"u{user}": int(count) for user, count in enumerate(np.bincount(users)) if count
    }
