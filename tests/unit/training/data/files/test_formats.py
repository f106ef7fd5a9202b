"""Every format gives the same interactions, and every error names file, line and column."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.behaviours.actions import ACTION_CODES
from contract.behaviours.csv_rows import Problem
from tests.support.news_log import SMALL, news_log
from tests.support.news_log_files import write_events
from tests.support.own_files import FORMATS, write_news, write_rows
from tests.support.service_process import ROOT
from training.data.datasets.interactions import DataError, Interactions
from training.data.files import own
from training.data.prepare import Prepared, load_prepared, prepare
from training.data.sources import NO_MAPPING, MappingOptions, read_source

TS = 1_700_000_000_000


def read(path: Path, *overrides: str, problems: list[Problem] | None = None) -> Interactions:
    on_skip = None if problems is None else problems.append
    found = read_source(str(path), None, path.parent, on_skip, MappingOptions(None, overrides)).interactions
    assert isinstance(found, Interactions)
    return found


def row(**cells: Any) -> dict[str, Any]:
    return {"user": "u", "item": "a", "ts": TS, "action": "click", "play_ms": None} | cells


@pytest.fixture(scope="module")
def by_csv(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("csv")
    return _prepared(write_news(folder), folder)


def _prepared(path: Path, folder: Path) -> Prepared:
    source = read_source(str(path), None, folder, None, NO_MAPPING)
    prepare(source.interactions, folder / "data" / source.name, core=1)
    return load_prepared(folder / "data" / source.name)


@pytest.mark.parametrize("ending", FORMATS[1:])
def test_every_format_gives_the_same_prepared_data(ending: str, by_csv: Prepared, tmp_path: Path) -> None:
    found = _prepared(write_news(tmp_path, ending), tmp_path)
    assert found.items.ids == by_csv.items.ids
    assert found.user_starts.tolist() == by_csv.user_starts.tolist()
    assert by_csv.impressions is not None
    assert found.impressions is not None
    for ours, theirs in (
        (found.columns, by_csv.columns), (found.impressions, by_csv.impressions),
        (found.features, by_csv.features), (found.numbers, by_csv.numbers),
    ):  # fmt: skip
        assert ours.keys() == theirs.keys()
        for name, column in ours.items():
            np.testing.assert_array_equal(column, theirs[name], err_msg=name)


def test_the_log_is_read_as_it_was_generated(by_csv: Prepared) -> None:
    log = news_log(**SMALL)
    clicks = log.events == 1
    assert by_csv.impressions is not None
    assert len(by_csv.impressions["labels"]) == int((log.events == 0).sum())
    assert by_csv.impressions["labels"].sum() == int(clicks.sum())  # each shown article was clicked at most once
    assert by_csv.columns["plays"].sum() == int(log.dwell_s.sum()) * 1000
    assert np.sort(by_csv.columns["times_ms"]).tolist() == np.sort(log.times_ms[log.events > 0]).tolist()


def test_a_folder_of_parts_in_several_formats_is_one_log(tmp_path: Path, by_csv: Prepared) -> None:
    log = news_log(**SMALL)
    write_news(tmp_path, ".csv", log).unlink()
    parts = tmp_path / "news"
    (parts / "day=2").mkdir(parents=True)
    write_events(log.between(0, 1), parts / "0.csv")
    write_events(log.between(1, 2), parts / "1.jsonl.gz")
    write_events(log.between(2, 9), parts / "day=2" / "part.parquet")
    (parts / "_SUCCESS").write_text("")
    found = _prepared(parts, tmp_path)
    for name, column in by_csv.columns.items():
        np.testing.assert_array_equal(found.columns[name], column, err_msg=name)


def test_unfinished_parts_in_a_folder_are_left_out(tmp_path: Path) -> None:
    for name, item in (("0.csv", "a"), ("_temporary/1.csv", "b"), (".checkpoints/0.csv", "c"), ("day=2/_2.csv", "d")):
        (tmp_path / "log" / name).parent.mkdir(parents=True, exist_ok=True)
        write_rows(tmp_path / "log" / name, [row(item=item)])
    assert list(read(tmp_path / "log").items) == ["a"]


BAD = [
    ("user", "", "is empty", "id"),
    ("item", "x" * 129, "is not an id", "id"),
    ("ts", "soon", "'soon' is not a number", "number"),
    ("ts", 1_700_000_000, "is before 1971 in milliseconds", "before_1971"),
    ("ts", 4_000_000_000_000, "is more than 5 minutes in the future", "future"),
    ("action", "poke", "'poke' is not one of impression, click", "action"),
    ("play_ms", -1, "'-1' is not a number from 0 to 4294967295", "number"),
]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(("column", "cell", "message", "kind"), BAD, ids=[f"{one[0]}-{one[3]}" for one in BAD])
def test_an_error_names_file_line_and_column_and_can_be_skipped(
    tmp_path: Path, ending: str, column: str, cell: Any, message: str, kind: str
) -> None:
    rows = [row(item=f"i{place}") for place in range(3)]
    rows[1][column] = cell
    if ending == ".parquet" and isinstance(cell, str):
        for one in rows:
            one[column] = None if one[column] is None else str(one[column])
    path = write_rows(tmp_path / f"log{ending}", rows)
    options = ("columns.user=user",)  # CSV too goes by this reader
    place = {".csv": "line 3", ".tsv": "line 3", ".jsonl": "line 2", ".parquet": "row 2"}[ending]
    with pytest.raises(DataError, match=re.escape(f"{path}, {place}, column {column}: ")) as error:
        read(path, *options)
    assert message in str(error.value)
    problems: list[Problem] = []
    found = read(path, *options, problems=problems)
    assert list(found.items) == ["i0", "i2"]
    assert [one.kind for one in problems] == [kind]
    assert found.read[f"skipped_{kind}"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{not json", "line 2: not JSON: "),
        (b"[1, 2]", "line 2: not a JSON object"),
        (b'{"user": "\xff"}', "line 2: not UTF-8 text"),
        (b"[" * 100_000, "line 2: not JSON: nested too deeply"),
    ],
)
def test_a_bad_line_of_json_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "log.jsonl"
    good = b'{"user": "u", "item": "a", "ts": %d}' % TS
    path.write_bytes(b"\n".join((good, line, good)) + b"\n")
    with pytest.raises(DataError, match=re.escape(message)):
        read(path)
    problems: list[Problem] = []
    assert len(read(path, problems=problems).users) == 2
    assert len(problems) == 1


@pytest.mark.parametrize("name", ["log.csv.gz", "log.jsonl.zst", "log.parquet"])
def test_a_file_of_another_format_than_its_name_is_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"user,item,ts\n")
    with pytest.raises(DataError, match=re.escape(f"{path}: cannot be read: ")) as error:
        read(path, "columns.user=user")
    assert "\n" not in str(error.value)


def test_a_cut_gzip_file_is_an_error_of_the_file(tmp_path: Path) -> None:
    text = gzip.compress(b"user\titem\tts\n" + b"u\ta\t1700000000000\n" * 100_000)
    (tmp_path / "log.tsv.gz").write_bytes(text[: len(text) // 2])
    with pytest.raises(DataError, match=r"log\.tsv\.gz: is cut off"):
        read(tmp_path / "log.tsv.gz")


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, ending: str) -> None:
    path = write_rows(tmp_path / f"log{ending}", [{"uid": "u", "item": "a", "ts": TS}])
    with pytest.raises(DataError, match=r"column user_id or user is missing; the file has: uid, item, ts"):
        read(path, "play_unit=ms")
    with pytest.raises(DataError, match=r"column watched is missing"):
        read(path, "columns.user=uid", "columns.play=watched")


def test_a_folder_without_a_readable_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"no file in it ends in \.csv, "):
        read(tmp_path / "log")


def test_numbers_are_ids_as_they_would_be_written(tmp_path: Path) -> None:
    table = pa.table({"user": [1, 2], "item": pa.array([7.0, 8.0]), "ts": [TS, TS]})
    pq.write_table(table, tmp_path / "log.parquet")
    found = read(tmp_path / "log.parquet")
    assert (list(found.users), list(found.items)) == (["1", "2"], ["7", "8"])


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (["u"], "is a list"), ({"id": 1}, "is an object"), (True, "is a truth value"), (b"u", "is bytes"),
        (1.5, "is '1.5'"), (float("nan"), "is empty"),
    ],
)  # fmt: skip
def test_a_value_that_is_no_id_is_refused_and_not_written_as_text(tmp_path: Path, cell: Any, told: str) -> None:
    other = 1.0 if isinstance(cell, float) else None
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"user": [other, cell], "item": ["a", "b"], "ts": [TS, TS + 1]}), path)
    problems: list[Problem] = []
    if other is None:
        with pytest.raises(DataError, match="no interactions in it: all 2 were skipped"):
            read(path, "time.format=ms", problems=problems)
    else:
        assert list(read(path, "time.format=ms", problems=problems).users) == ["1"]
    last = problems[-1].told(path)
    assert last.startswith(f"{path}, row 2, column user: {told}")


def test_a_dictionary_column_and_a_time_column_of_parquet_are_read(tmp_path: Path) -> None:
    moment = datetime(2023, 11, 14, 22, 13, 20, 5000, tzinfo=UTC)
    table = pa.table(
        {"user": pa.array(["u", "v"]).dictionary_encode(), "item": ["a", "b"], "ts": [moment, moment], "other": [1, 2]}
    )
    pq.write_table(table, tmp_path / "log.parquet")
    assert read(tmp_path / "log.parquet").times_ms.tolist() == [TS + 5, TS + 5]


def test_blanks_around_ids_are_removed_and_counted(tmp_path: Path) -> None:
    for ending in (".tsv", ".jsonl", ".parquet"):
        path = write_rows(tmp_path / f"log{ending}", [row(user=" u"), row(item="b")])
        found = read(path)
        assert list(found.users) == ["u", "u"]
        assert found.read["ids_with_outer_blanks"] == 1, ending


def test_the_reader_of_other_formats_reads_a_plain_csv_as_the_csv_reader_does(tmp_path: Path) -> None:
    text = f"user,item,ts,action,play_ms,value,title,genres,year\nu,a,{TS},like,7,4.5,Rain,War|Drama,1999\n"
    (tmp_path / "log.csv").write_text(text)
    plain, mapped = read(tmp_path / "log.csv"), _loaded(tmp_path / "log.csv")
    assert list(mapped.users) == list(plain.users)
    for name in ("times_ms", "actions", "plays_ms", "values"):
        assert getattr(mapped, name).tolist() == getattr(plain, name).tolist()
    assert mapped.catalogue["a"].title == plain.catalogue["a"].title
    assert mapped.fields is not None
    assert list(mapped.fields) == ["title", "year", "genres"]
    assert plain.actions.tolist() == [ACTION_CODES["like"]]


def _loaded(path: Path) -> Interactions:
    found = own.load(*own.open_log(path), path, path.parent)
    assert isinstance(found, Interactions)
    return found


def test_a_cell_without_an_action_is_a_click_beside_a_cell_that_is_none(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.jsonl", [row(item="a", action=None), row(item="b", action=["click"])])
    problems: list[Problem] = []
    found = read(path, problems=problems)
    assert (list(found.items), list(found.actions)) == (["a"], [ACTION_CODES["click"]])
    assert [problem.line for problem in problems] == [2]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"title": {"en": "Cup"}}, "column title: is a list or an object"),
        ({"shelf": {"en": "Cup"}}, "column shelf: is a list or an object"),
        ({"device": ["ios"]}, "column device: is a list, not a text or a whole number"),
        ({"device": True}, "column device: is a truth value, not a text or a whole number"),
    ],
)
def test_an_object_in_place_of_a_value_names_line_and_column(
    tmp_path: Path, cells: dict[str, Any], message: str
) -> None:
    path = write_rows(tmp_path / "log.jsonl", [row(item="a"), row(item="b", **cells)])
    (tmp_path / "log.toml").write_text(
        'context = ["device"]\n[items]\ntitle = "title"\n[features]\nshelf = {kind = "category"}\n'
    )
    with pytest.raises(DataError, match=re.escape(f"{path}, line 2, {message}")):
        read(path)
    problems: list[Problem] = []
    assert list(read(path, problems=problems).items) == ["a"]
    assert len(problems) == 1


def test_half_of_a_surrogate_pair_names_its_line(tmp_path: Path) -> None:
    """As a program writes that cuts a title in the middle of an emoji: no file in UTF-8 can have it."""
    path = write_rows(
        tmp_path / "log.jsonl", [row(item="a", title="\ud83d\ude00 whole"), row(item="b", title="\ud83d")]
    )
    with pytest.raises(DataError, match=re.escape(f"{path}, line 2: not text: it has half of a surrogate pair")):
        read(path)
    assert list(read(path, problems=[]).items) == ["a"]


@pytest.mark.slow
def test_times_of_parquet_with_nanoseconds_need_no_pandas(tmp_path: Path) -> None:
    """Pyarrow turns such times into those of pandas, which `pip install .[offline]` does not bring."""
    times = pa.array([TS * 1_000_000 + 1], pa.timestamp("ns"))
    pq.write_table(pa.table({"user": ["u"], "item": ["a"], "ts": times}), tmp_path / "log.parquet")
    program = (
        "import sys\n"
        "class NoPandas:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'pandas': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, NoPandas())\n"
        "from training.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    log = str(tmp_path / "log.parquet")
    prepared = ["prepare", log, "--map", "time.zone=UTC", "--core", "1", "--out", str(tmp_path)]
    subprocess.run([sys.executable, "-c", program, *prepared], cwd=ROOT, check=True)
    assert f"u,a,{TS},click" in (tmp_path / "log" / "behaviours.csv").read_text()


def test_texts_of_parquet_that_are_not_utf_8_name_their_column(tmp_path: Path) -> None:
    texts = pa.array([b"a\xff"]).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"user": ["u"], "item": texts, "ts": [TS]}), tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"column item has texts that are not UTF-8"):
        read(tmp_path / "log.parquet")


def test_a_parquet_file_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    columns = [pa.array(["u"]), pa.array(["v"]), pa.array(["a"]), pa.array([TS])]
    pq.write_table(pa.Table.from_arrays(columns, names=["user", "user", "item", "ts"]), tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"log\.parquet: column user is there twice"):
        read(tmp_path / "log.parquet")


def test_a_category_of_numbers_is_spelt_as_a_request_spells_it(tmp_path: Path) -> None:
    """A table turns whole numbers into 7.0 if one is missing; a request has 7."""
    shelf = pa.array([7.0, None, float("nan")])
    ids = pa.table({"user": ["u"] * 3, "item": ["a", "b", "c"], "ts": [TS] * 3, "shelf": shelf})
    pq.write_table(ids, tmp_path / "log.parquet")
    (tmp_path / "log.toml").write_text('[features]\nshelf = {kind = "category"}\n')
    found = read_source(str(tmp_path / "log.parquet"), None, tmp_path)
    prepare(found.interactions, tmp_path / "data" / "log", core=1)
    described = json.loads((tmp_path / "data" / "log" / "features.json").read_text())
    assert described["shelf"]["names"] == ["", "7"]
