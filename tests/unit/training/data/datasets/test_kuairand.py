from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from contract.behaviours.actions import ACTIONS
from contract.bundle.tensors import SequenceSpec
from training.data.datasets.interactions import DataError
from training.data.datasets.kuairand import HISTORY, LOG, VIDEOS, load
from training.data.prepare import Prepared, load_prepared, prepare
from training.recipe import TrainingRecipe
from training.rows.loader import Loader
from training.rows.split import SplitError, every_row, impressions, instances

START_MS = 1_650_000_000_000
LINES = {
    LOG: [
        "user_id,video_id,date,hourmin,time_ms,is_click,is_like,long_view,play_time_ms,duration_ms,tab",
        "5,10,20220425,0,1650000002000,1,0,0,900,5000,1",
        "5,10,20220425,0,1650000002000,1,0,0,900,5000,1",  # the same row again
        "6,11,20220425,0,1650000001500,0,1,1,700,5000,1",  # earlier than the row before it
        "5,10,20220425,0,1650000002000,0,0,1,100,5000,6",  # the same user, video and time, otherwise not
        "5,12,20220425,100,1650000003000,1,1,1,8000,0,1",
        "5,10,20220425,100,1650000004000,1,0,1,6000,5000,1",  # the second click on a video
        "7,13,20220425,100,1650000004000,0,0,0,0,5000,1",  # neither clicks nor has a history
    ],
    HISTORY: [
        "user_id,history_len,last_time_ms,exposed_seq,long_view_seq,like_seq",
        "5,4,1650000001000,14 11 10 14,11 14 11,",
        "6,2,1650000001600,11 12,12,",  # ends after the log begins
        "8,1,1650000000900,15,15,",  # not in the log
    ],
    VIDEOS: [
        "video_id,author_id,video_type,upload_dt,upload_type,video_duration,music_type,tag",
        '10,100,NORMAL,2022-04-10,Web,5000.0,9.0,"39,2"',
        "11,100,AD,2022-04-10,UNKNOWN,7000.0,,",
        "12,101,NORMAL,2022-04-10,Web,,9.0,2",
        "13,102,NORMAL,2022-04-10,Web,1000.0,9.0,2",
        "14,102,NORMAL,2022-04-10,Web,2000.0,9.0,2",
        "15,102,NORMAL,2022-04-10,Web,2000.0,9.0,2",
    ],
}


def _write(folder: Path, name: str = "", number: int = 0, line: str = "") -> Path:
    """Write the files, with one line of one of them, counted from 1, replaced."""
    for file, lines in LINES.items():
        written = [line if (file, place) == (name, number) else other for place, other in enumerate(lines, start=1)]
        (folder / file).write_bytes(gzip.compress(("\n".join(written) + "\n").encode()))
    return folder


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    prepare(load(_write(tmp_path)), tmp_path / "d", core=1)
    return load_prepared(tmp_path / "d")


def _named(prepared: Prepared, name: str) -> list[list[object]]:
    """Return one column, user by user."""
    values = prepared.columns[name].tolist()
    if name == "items":
        values = [prepared.items.ids[index - 1] for index in values]
    elif name == "actions":
        values = [ACTIONS[code - 1] for code in values]
    starts = prepared.user_starts.tolist()
    return [values[start:stop] for start, stop in pairwise(starts)]


def test_histories_are_context_before_the_clicks_of_the_log(prepared: Prepared) -> None:
    assert prepared.users.ids == ("5", "6", "7")
    assert _named(prepared, "items") == [["11", "14", "11", "10", "12"], ["12"], []]
    assert _named(prepared, "context") == [[1, 1, 1, 0, 0], [1], []]
    assert _named(prepared, "actions") == [["play", "play", "play", "click", "click"], ["play"], []]
    assert _named(prepared, "plays") == [[0, 0, 0, 900, 8000], [0], []]


def test_a_history_ends_at_the_last_time_but_never_inside_the_log_and_keeps_its_order(prepared: Prepared) -> None:
    assert _named(prepared, "times_ms") == [
        [START_MS + time for time in (998, 999, 1000, 2000, 3000)], [START_MS + 1499], [],
    ]  # fmt: skip


def test_impressions_are_the_rows_without_repeats_in_the_order_of_time(prepared: Prepared) -> None:
    shown = prepared.impressions
    assert shown is not None
    assert (shown["times_ms"] - START_MS).tolist() == [1500, 2000, 3000, 4000, 4000]
    assert shown["labels"].tolist() == [1, 0, 1, 1, 0]
    assert [prepared.users.ids[place] for place in shown["users"]] == ["6", "5", "5", "5", "7"]
    assert [prepared.items.ids[index - 1] for index in shown["items"]] == ["11", "10", "12", "10", "13"]


def test_items_are_those_of_the_log_and_of_the_histories_of_its_users(prepared: Prepared) -> None:
    assert set(prepared.items.ids) == {"10", "11", "12", "13", "14"}


def test_what_was_left_out_is_counted(prepared: Prepared) -> None:
    assert prepared.provenance["read"] == {
        "log_rows": 7,
        "log_rows_without_repeats": 5,
        "clicks": 3,
        "distinct_clicks": 2,
        "history_users": 3,
    }
    counts = prepared.provenance["counts"]
    assert (counts["context"], counts["impressions"], counts["impressions_positive"]) == (4, 5, 3)


def test_what_is_known_of_videos_are_features(tmp_path: Path) -> None:
    catalogue = load(_write(tmp_path)).catalogue
    assert catalogue["10"].features["tag"] == ("39", "2")
    assert catalogue["10"].features["author"] == ("100",)
    assert catalogue["11"].features["tag"] == ()
    assert {"upload_type", "music_type"}.isdisjoint(catalogue["11"].features)
    assert catalogue["12"].features["duration"] == ()
    lengths = [catalogue[video].features["duration"][0] for video in ("13", "14", "10", "11")]
    assert lengths == sorted(set(lengths))


def test_statistics_of_the_days_of_the_log_are_not_read(tmp_path: Path) -> None:
    loaded = load(_write(tmp_path))
    (tmp_path / "video_features_statistic_pure.csv.gz").write_bytes(b"anything")
    assert load(tmp_path).digest == loaded.digest


def test_durations_fall_into_bins_of_equal_numbers(tmp_path: Path) -> None:
    head, videos = LINES[VIDEOS][0], range(1, 641)
    (_write(tmp_path) / VIDEOS).write_bytes(
        gzip.compress("\n".join([head, *(f"{video},1,A,,W,{video * 10},9,2" for video in videos)]).encode())
    )
    catalogue = load(tmp_path).catalogue
    _, counts = np.unique([catalogue[str(video)].features["duration"] for video in videos], return_counts=True)
    assert counts.tolist() == [20] * 32


@pytest.mark.parametrize(
    ("name", "number", "line", "words"),
    [
        (LOG, 4, "6,11,1,0,soon,0,0,1,700,5000,1", f"{LOG}, line 4, column time_ms: 'soon'"),
        (LOG, 4, "6,11,1,0,1650000001500,2,0,1,700,5000,1", f"{LOG}, line 4, column is_click: '2'"),
        (LOG, 4, "6,11,1,0,1650000001500,0,0,,700,5000,1", f"{LOG}, line 4, column long_view: ''"),
        (LOG, 4, "6,11,1,0,1650000001500,0,0,1,-7,5000,1", f"{LOG}, line 4, column play_time_ms: '-7'"),
        (LOG, 4, "6,99,1,0,1650000001500,0,0,1,700,5000,1", f"{LOG}, line 4, column video_id: '99' is not in {VIDEOS}"),
        (LOG, 4, "6,11,1,0", f"{LOG}, line 4, column time_ms: missing"),
        (
            HISTORY,
            2,
            "5,4,1650000001000,14,11 99,",
            f"{HISTORY}, line 2, column long_view_seq: '99' is not in {VIDEOS}",
        ),
        (HISTORY, 3, "6,2,,11 12,12,", f"{HISTORY}, line 3, column last_time_ms: ''"),
        (VIDEOS, 3, "11,100,AD,,W,long,,", f"{VIDEOS}, line 3, column video_duration: 'long'"),
        (VIDEOS, 3, "11,100,AD,,W,nan,,", f"{VIDEOS}, line 3, column video_duration: 'nan'"),
        (VIDEOS, 1, "video_id,author_id", f"{VIDEOS}, line 1: column music_type is missing"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_column(
    tmp_path: Path, name: str, number: int, line: str, words: str
) -> None:
    with pytest.raises(DataError) as caught:
        load(_write(tmp_path, name, number, line))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", [LOG, HISTORY, VIDEOS])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (_write(tmp_path) / name).unlink()
    with pytest.raises(DataError, match=f"{name}: no such file"):
        load(tmp_path)


def test_what_came_of_each_impression_is_kept(prepared: Prepared) -> None:
    assert prepared.outcomes == ("click", "finish", "like", "play")
    assert prepared.impressions is not None
    shown = {name: prepared.impressions[f"outcome.{name}"].tolist() for name in prepared.outcomes}
    assert shown == {
        "click": [0, 1000, 1000, 1000, 0],
        "finish": [1000, 0, 1000, 1000, 0],
        "like": [1000, 0, 1000, 0, 0],
        "play": [140, 180, 1000, 1000, 0],  # in thousandths of the video's length, at most all of it
    }


def test_a_models_targets_are_the_labels_of_its_rows(prepared: Prepared) -> None:
    rows = impressions(prepared)
    loader = Loader(prepared, SequenceSpec(length=3), rows, ("like", "play"))
    (batch,) = loader.training_batches(np.random.default_rng(0), np.arange(5), TrainingRecipe(batch=5))
    assert batch.labels is not None
    np.testing.assert_allclose(batch.labels.numpy(), [[1, 0.14], [0, 0.18], [1, 1], [0, 1], [0, 0]], rtol=1e-6)
    assert rows.outcomes is not None
    assert rows.take(np.array([2])).outcomes is not None
    np.testing.assert_array_equal(every_row(prepared, "impressions").outcomes, rows.outcomes)


def test_an_outcome_that_the_data_lack_is_refused(prepared: Prepared) -> None:
    with pytest.raises(
        SplitError, match=r"config\.targets: no outcome 'share' of impressions; there are click, finish"
    ):
        Loader(prepared, SequenceSpec(length=3), impressions(prepared), ("like", "share"))
    with pytest.raises(SplitError, match="targets need protocol 'impressions'"):
        Loader(prepared, SequenceSpec(length=3), instances(prepared), ("like",))
