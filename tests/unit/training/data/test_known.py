"""Preparation after an earlier one: users, items and feature values keep their indices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contract.files import read_object
from training.data.datasets.interactions import DataError, Interactions, ItemFacts, default_actions
from training.data.known import NOTHING_KNOWN, Known, read_known
from training.data.prepare import Prepared, load_prepared, prepare

START_MS = 1_700_000_000_000
TOPICS = {"a": "news", "b": "sport", "c": "art", "d": "news", "e": "arts"}


def _log(rows: str, **changes: object) -> Interactions:
    """Return interactions from `user item` pairs, a second apart."""
    users, items = zip(*(pair.split(":") for pair in rows.split()), strict=True)
    zeros = np.zeros(len(users), dtype=np.int64)
    times = START_MS + 1000 * np.arange(len(users))
    facts = {item: ItemFacts(features={"topic": (TOPICS[item],)}) for item in set(items)}
    log = Interactions("toy", "a test", rows, users, items, times, default_actions(len(users)), zeros, zeros, facts)
    return replace(log, **changes)  # type: ignore[arg-type]


def _prepared(folder: Path, rows: str, known: Known = NOTHING_KNOWN) -> Prepared:
    prepare(_log(rows), folder, core=1, known=known)
    return load_prepared(folder)


def test_users_items_and_values_of_yesterday_keep_their_indices_and_new_ones_follow(tmp_path: Path) -> None:
    _prepared(tmp_path / "monday", "u:b u:c v:b")
    tuesday = _prepared(tmp_path / "tuesday", "w:d w:c v:e v:a", read_known(tmp_path / "monday"))
    assert tuesday.items.ids == ("b", "c", "d", "e", "a")
    assert tuesday.users.ids == ("u", "v", "w")
    assert tuesday.user_starts.tolist() == [0, 0, 2, 4]  # u has no interaction today
    assert tuesday.columns["items"].tolist() == [4, 5, 3, 2]
    names = read_object(tmp_path / "tuesday" / "features.json")["topic"]["names"]
    assert names == ["", "art", "sport", "arts", "news"]
    assert tuesday.features["topic"][:, 0].tolist() == [0, 0, 1, 4, 3, 4]  # of b nothing is known today
    assert tuesday.cardinalities["topic"] == 5


def test_without_new_names_the_prepared_columns_are_those_of_a_plain_preparation(tmp_path: Path) -> None:
    rows = "u:b u:c v:b v:a w:c"
    plain = _prepared(tmp_path / "plain", rows)
    again = _prepared(tmp_path / "again", rows, read_known(tmp_path / "plain"))
    assert (again.items.ids, again.users.ids) == (plain.items.ids, plain.users.ids)
    for name, column in plain.columns.items():
        np.testing.assert_array_equal(again.columns[name], column)
    np.testing.assert_array_equal(again.features["topic"], plain.features["topic"])
    assert again.digest != plain.digest


def test_the_same_preparation_after_the_same_folder_is_reused(tmp_path: Path) -> None:
    _prepared(tmp_path / "monday", "u:b u:c")
    known = read_known(tmp_path / "monday")
    assert [prepare(_log("v:c"), tmp_path / "tuesday", core=1, known=known)[1] for _ in range(2)] == [False, True]
    assert prepare(_log("v:c"), tmp_path / "tuesday", core=1)[1] is False


def test_a_field_without_values_today_keeps_its_table(tmp_path: Path) -> None:
    _prepared(tmp_path / "monday", "u:b u:c")
    bare = replace(_log("v:c"), catalogue={})
    prepare(bare, tmp_path / "tuesday", core=1, known=read_known(tmp_path / "monday"))
    tuesday = load_prepared(tmp_path / "tuesday")
    assert tuesday.cardinalities["topic"] == 3
    assert not tuesday.features["topic"].any()


@pytest.mark.parametrize("missing", ["items.json", "users.json", "features.json"])
def test_a_folder_without_vocabularies_is_refused(tmp_path: Path, missing: str) -> None:
    _prepared(tmp_path / "monday", "u:b u:c")
    (tmp_path / "monday" / missing).unlink()
    with pytest.raises(DataError, match=f"--after: .*{missing}"):
        read_known(tmp_path / "monday")
