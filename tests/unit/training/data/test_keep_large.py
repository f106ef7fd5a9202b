"""A log that is prepared on disk becomes the same folder as one that is prepared in memory."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import numpy as np
import pytest

from contract.files import read_arrays
from tests.support.news_log import news_log
from tests.support.own_files import write_news, write_rows
from training.data import keep_large
from training.data.datasets.interactions import DataError, Interactions
from training.data.files import own, spill
from training.data.files.large_log import LargeLog
from training.data.known import NOTHING_KNOWN, Known
from training.data.prepare import prepare
from training.data.sources import read_source

EVERY = ("interactions.npz", "impressions.npz", "features.npz", "item_numbers.npz")
SOME_KNOWN = Known(users=("new", "u7"), items=("a3", "other"), digest="d")
TEXTS = ("items.json", "users.json", "features.json", "catalogue.json", "behaviours.csv")


def _read(path: Path, most: int) -> Interactions | LargeLog:
    return own.load(*own.open_log(path), path, path.parent / "scratch", most)


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with exact repeats, which is not ordered by time."""
    folder = tmp_path_factory.mktemp("news")
    path = write_news(folder, log=news_log(events=6_000, users=150, articles=500, days=4))
    header, *lines = path.read_text().splitlines()
    order = np.random.default_rng(0).permutation(np.arange(len(lines) + 500) % len(lines))
    path.write_text("\n".join([header, *(lines[place] for place in order.tolist())]) + "\n")
    return path


@pytest.mark.parametrize(
    ("core", "known"),
    [
        (1, NOTHING_KNOWN),
        (4, SOME_KNOWN),
        pytest.param(4, NOTHING_KNOWN, marks=pytest.mark.slow),
        pytest.param(1, SOME_KNOWN, marks=pytest.mark.slow),
    ],
)
def test_both_ways_write_the_same_folder(
    news: Path, tmp_path: Path, core: int, known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill, "_GROUP", 1_000)
    monkeypatch.setattr(keep_large, "_BATCH", 700)
    small, large = _read(news, 10_000_000), _read(news, 100)
    assert (type(small), type(large)) == (Interactions, LargeLog)
    ours, _ = prepare(small, tmp_path / "small", core, known)
    theirs, _ = prepare(large, tmp_path / "large", core, known)
    assert ours == theirs
    assert ours["plausibility"]["repeats"] >= 400
    assert ours["plausibility"]["core"] > 0 or core == 1
    for name in EVERY:
        one, other = read_arrays(tmp_path / "small" / name), read_arrays(tmp_path / "large" / name)
        assert one.keys() == other.keys()
        for column, values in one.items():
            np.testing.assert_array_equal(values, other[column], err_msg=f"{name}: {column}")
    for name in TEXTS:
        assert (tmp_path / "small" / name).read_bytes() == (tmp_path / "large" / name).read_bytes(), name


def test_what_is_on_disk_meanwhile_is_removed(news: Path) -> None:
    large = _read(news, 100)
    assert isinstance(large, LargeLog)
    folder = large.rows.path.parent
    assert folder.exists()
    del large
    gc.collect()
    assert not folder.exists()


def test_the_same_digest_is_prepared_once(news: Path, tmp_path: Path) -> None:
    prepare(_read(news, 100), tmp_path / "data", 2)
    assert prepare(_read(news, 10_000_000), tmp_path / "data", 2)[1] is True


def test_a_core_that_nothing_reaches_is_an_error(news: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no user and item has 5000 interactions"):
        prepare(_read(news, 100), tmp_path / "data", 5_000)


def test_a_log_without_impressions_has_no_file_of_them(tmp_path: Path) -> None:
    rows = [{"user": f"u{k % 3}", "item": f"i{k % 4}", "ts": 1_700_000_000_000 + k} for k in range(40)]
    path = write_rows(tmp_path / "log.jsonl", rows)
    prepare(_read(path, 10), tmp_path / "data", 1)
    assert not (tmp_path / "data" / "impressions.npz").exists()
    provenance = json.loads((tmp_path / "data" / "provenance.json").read_text())
    assert provenance["counts"]["interactions"] == 40


def test_an_empty_mapping_takes_a_large_csv_file_through_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "IN_MEMORY", 10)
    rows = [{"user": "u", "item": "a", "ts": 1_700_000_000_000 + k} for k in range(20)]
    path = write_rows(tmp_path / "log.csv", rows)
    (tmp_path / "log.toml").touch()
    assert isinstance(read_source(str(path), None, tmp_path).interactions, LargeLog)


def test_a_folder_may_have_a_quote_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "an editor's"
    folder.mkdir()
    path = write_rows(folder / "log.csv", [{"user": "u", "item": "a", "ts": 1_700_000_000_000 + k} for k in range(20)])
    assert prepare(_read(path, 10), folder / "data", 1)[0]["counts"]["interactions"] == 20


def test_a_header_without_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log.tsv").write_text("user\titem\tts\n")
    with pytest.raises(DataError, match="no interactions in it"):
        _read(tmp_path / "log.tsv", 10)


def test_a_bad_line_leaves_nothing_on_disk(tmp_path: Path) -> None:
    rows = [{"user": "u", "item": "a", "ts": 1_700_000_000_000 + k} for k in range(40_000)]
    path = write_rows(tmp_path / "log.jsonl", [*rows, {"user": "", "item": "a", "ts": 1_700_000_000_000}])
    with pytest.raises(DataError, match="line 40001, column user: is empty"):
        _read(path, 10)
    assert list((tmp_path / "scratch").iterdir()) == []
