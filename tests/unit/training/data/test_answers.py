"""Impressions of an own log are labelled by the actions that follow them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.own_files import write_news, write_rows
from training.data.answers import answered
from training.data.prepare import Prepared, load_prepared, prepare
from training.data.sources import read_source

TS = 1_700_000_000_000


def test_labels_are_those_of_a_search_through_all_actions() -> None:
    rng = np.random.default_rng(3)
    shown, acted = rng.integers(20, size=400), rng.integers(20, size=300)
    shown_ms, acted_ms = rng.integers(1_000, size=400), rng.integers(1_000, size=300)
    expected = [
        any(acted[k] == pair and 0 <= acted_ms[k] - time <= 25 for k in range(300))
        for pair, time in zip(shown.tolist(), shown_ms.tolist(), strict=True)
    ]
    found = answered(shown, shown_ms, acted, acted_ms, 25)
    assert found.astype(bool).tolist() == expected
    assert 50 < sum(expected) < 350


def test_without_actions_no_impression_is_positive() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    assert answered(np.array([1, 1]), np.array([5, 6]), nothing, nothing, 100).tolist() == [0, 0]


def _prepared(tmp_path: Path, rows: list[tuple[str, str, int, str]], window: str = "") -> Prepared:
    names = ("user", "item", "ts", "action")
    path = write_rows(tmp_path / "log.csv", [dict(zip(names, (*row,), strict=True)) for row in rows])
    if window:
        (tmp_path / "log.toml").write_text(f"[impressions]\nwindow_s = {window}")
    source = read_source(str(path), None, tmp_path)
    prepare(source.interactions, tmp_path / "data" / "log", core=1)
    return load_prepared(tmp_path / "data" / "log")


ROWS = [
    ("u", "a", TS, "impression"),
    ("u", "a", TS + 5_000, "click"),
    ("u", "b", TS + 6_000, "impression"),
    ("u", "b", TS + 7_000, "dislike"),
    ("u", "c", TS + 8_000, "impression"),
    ("u", "c", TS + 8_000 + 1_800_001, "click"),
    ("v", "a", TS + 9_000, "impression"),
]


def test_impressions_of_an_own_csv_file_are_labelled(tmp_path: Path) -> None:
    prepared = _prepared(tmp_path, ROWS)
    assert prepared.impressions is not None
    assert prepared.impressions["labels"].tolist() == [1, 0, 0, 0]
    assert [prepared.users.ids[user] for user in prepared.impressions["users"]] == ["u", "u", "u", "v"]
    assert prepared.provenance["plausibility"]["impressions"] == 4
    assert prepared.provenance["plausibility"]["actions"] == 1  # the dislike


def test_the_window_is_in_the_mapping(tmp_path: Path) -> None:
    prepared = _prepared(tmp_path, ROWS, window="7200")
    assert prepared.impressions is not None
    assert prepared.impressions["labels"].tolist() == [1, 0, 1, 0]


def test_the_life_of_items_and_repeats_are_reported(tmp_path: Path) -> None:
    hour = 3_600_000
    rows = [
        ("u", "old", TS, "click"),
        ("u", "mid", TS + 30 * hour, "click"),  # born in the last 24 hours of 49
        ("u", "old", TS + 40 * hour, "click"),  # a repeat
        ("u", "old", TS + 41 * hour, "like"),  # none: another action
        ("u", "new", TS + 48 * hour, "click"),  # born in the last 6 hours
        ("v", "new", TS + 49 * hour, "click"),
        ("v", "old", TS + 49 * hour, "click"),
    ]
    provenance = _prepared(tmp_path, rows).provenance
    report = provenance["plausibility"]
    found = [report[name] for name in ("last_day", "last_day_young", "last_6h", "last_6h_new")]
    assert found == [6, 3, 3, 2]
    assert provenance["repeat_share"] == 0.2  # of the 5 rows with a history, 1


def test_half_of_the_news_logs_articles_are_new_in_its_last_day(tmp_path: Path) -> None:
    source = read_source(str(write_news(tmp_path)), None, tmp_path)
    provenance, _ = prepare(source.interactions, tmp_path / "data" / "news", core=1)
    report = provenance["plausibility"]
    assert report["last_day_young"] > 0.8 * report["last_day"] > 0
    assert 0.1 < report["last_6h_new"] / report["last_6h"] < 0.7
