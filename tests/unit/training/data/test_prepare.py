from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contract.behaviours.actions import ACTION_CODES, DEFAULT_ACTION
from tests.support.own_files import write_news
from training.data.datasets import ml100k
from training.data.datasets.interactions import DataError, Impressions, Interactions, ItemFacts, default_actions
from training.data.features import item_features
from training.data.files.own import load, open_log
from training.data.keep import core_filter
from training.data.prepare import FORMAT, load_prepared, prepare

START_MS = 1_700_000_000_000


def _interactions(rows: list[tuple[str, str, int]]) -> Interactions:
    users, items, times = zip(*rows, strict=True)
    zeros = np.zeros(len(rows), dtype=np.int64)
    return Interactions(
        "toy",
        "a test",
        "digest",
        users,
        items,
        START_MS + np.array(times, dtype=np.int64),
        default_actions(len(rows)),
        zeros,
        zeros,
    )


def test_equal_times_keep_the_order_of_the_source(tmp_path: Path) -> None:
    rows = [("u", "c", 5), ("v", "a", 1), ("u", "a", 5), ("u", "b", 2), ("v", "b", 1), ("v", "c", 0), ("u", "d", 5)]
    prepare(_interactions(rows), tmp_path / "toy", core=1)
    prepared = load_prepared(tmp_path / "toy")
    names = [prepared.items.ids[index - 1] for index in prepared.columns["items"]]
    assert prepared.users.ids == ("u", "v")
    assert prepared.user_starts.tolist() == [0, 4, 7]
    assert names == ["b", "c", "a", "d", "c", "a", "b"]


def test_the_core_is_repeated_until_nothing_changes() -> None:
    # Without item 2 user 1 has too few; without user 1 item 1 has too few; user 2 and 3 with items 3 and 4 remain.
    users = np.array([0, 0, 1, 2, 2, 3, 3])
    items = np.array([1, 2, 1, 3, 4, 3, 4])
    assert core_filter(users, items, 2).tolist() == [False, False, False, True, True, True, True]


def test_impressions_and_dislikes_are_no_behaviours_to_learn_from(tmp_path: Path) -> None:
    raw = _interactions([("u", "a", 1), ("u", "b", 2), ("u", "c", 3)])
    actions = np.array([ACTION_CODES[name] for name in (DEFAULT_ACTION, "impression", "dislike")])
    prepare(replace(raw, actions=actions), tmp_path / "toy", core=1)
    assert load_prepared(tmp_path / "toy").items.ids == ("a",)


def _shown(rows: list[tuple[str, str, int, int]]) -> Impressions:
    users, items, times, labels = zip(*rows, strict=True)
    return Impressions(users, items, np.array(times, dtype=np.int64), np.array(labels, dtype=np.int64))


def test_of_equal_times_what_was_known_before_the_log_stands_first(tmp_path: Path) -> None:
    raw = _interactions([("u", "a", 3), ("u", "d", 1), ("u", "b", 1), ("u", "c", 1), ("v", "a", 1)])
    prepare(replace(raw, context=np.array([False, False, True, True, False])), tmp_path / "toy", core=1)
    prepared = load_prepared(tmp_path / "toy")
    names = [prepared.items.ids[index - 1] for index in prepared.columns["items"]]
    assert names == ["b", "c", "d", "a", "a"]
    assert prepared.columns["context"].tolist() == [1, 1, 0, 0, 0]
    assert prepared.provenance["counts"]["context"] == 2


def test_without_context_no_interaction_is_context(tmp_path: Path) -> None:
    prepare(_interactions([("u", "a", 1), ("u", "b", 2)]), tmp_path / "toy", core=1)
    prepared = load_prepared(tmp_path / "toy")
    assert prepared.columns["context"].tolist() == [0, 0]
    assert prepared.columns["context"].dtype == np.int64
    assert prepared.impressions is None


def test_without_a_filter_whoever_was_shown_something_is_a_user(tmp_path: Path) -> None:
    raw = _interactions([("u", "a", 1), ("u", "b", 2)])
    shown = _shown([("w", "c", 5, 0), ("u", "a", 4, 1), ("w", "a", 4, 0)])
    prepare(replace(raw, impressions=shown), tmp_path / "toy", core=1)
    prepared = load_prepared(tmp_path / "toy")
    assert (prepared.users.ids, prepared.items.ids) == (("u", "w"), ("a", "b", "c"))
    assert prepared.user_starts.tolist() == [0, 2, 2]
    assert prepared.impressions is not None
    assert {name: column.tolist() for name, column in prepared.impressions.items()} == {
        "users": [0, 1, 1],
        "items": [1, 1, 3],
        "times_ms": [4, 4, 5],
        "labels": [1, 0, 0],
    }


def test_with_a_filter_impressions_follow_the_users_and_items_that_remain(tmp_path: Path) -> None:
    raw = _interactions([("u", "a", 1), ("u", "b", 2), ("v", "a", 3), ("v", "b", 4), ("w", "a", 5)])
    shown = _shown([("v", "c", 5, 1), ("w", "a", 6, 1), ("v", "a", 7, 1)])
    prepare(replace(raw, impressions=shown), tmp_path / "toy", core=2)
    prepared = load_prepared(tmp_path / "toy")
    assert prepared.users.ids == ("u", "v")
    assert prepared.impressions is not None
    assert prepared.impressions["times_ms"].tolist() == [7]
    assert prepared.impressions["users"].tolist() == [1]


def test_impressions_of_another_source_do_not_stay(tmp_path: Path) -> None:
    raw = _interactions([("u", "a", 1), ("u", "b", 2)])
    with_shown = replace(raw, digest="other", impressions=_shown([("u", "a", 4, 1)]))
    prepare(with_shown, tmp_path / "toy", core=1)
    assert load_prepared(tmp_path / "toy").impressions is not None
    prepare(raw, tmp_path / "toy", core=1)
    assert load_prepared(tmp_path / "toy").impressions is None
    prepare(with_shown, tmp_path / "toy", core=1)
    (tmp_path / "toy" / "impressions.npz").unlink()
    assert prepare(with_shown, tmp_path / "toy", core=1)[1] is False


def test_prepared_data_of_an_earlier_format_are_not_read(tmp_path: Path) -> None:
    prepare(_interactions([("u", "a", 1), ("u", "b", 2)]), tmp_path / "toy", core=1)
    path = tmp_path / "toy" / "provenance.json"
    path.write_text(path.read_text().replace(f'"format": {FORMAT}', '"format": 1'))
    with pytest.raises(DataError, match="no prepared data of this version"):
        load_prepared(tmp_path / "toy")


def test_the_same_source_is_prepared_once(tmp_path: Path, ml100k_folder: Path) -> None:
    raw = ml100k.load(ml100k_folder)
    first, reused = prepare(raw, tmp_path / "d")
    stamp = (tmp_path / "d" / "interactions.npz").stat().st_mtime_ns
    again, reused_again = prepare(raw, tmp_path / "d")
    assert (reused, reused_again) == (False, True)
    assert again == first
    assert (tmp_path / "d" / "interactions.npz").stat().st_mtime_ns == stamp


def test_another_source_core_or_a_lost_file_prepares_again(tmp_path: Path, ml100k_folder: Path) -> None:
    raw = ml100k.load(ml100k_folder)
    first, _ = prepare(raw, tmp_path / "d")
    assert prepare(raw, tmp_path / "d", core=4)[1] is False
    assert prepare(replace(raw, digest="other"), tmp_path / "d")[0]["digest"] != first["digest"]
    (tmp_path / "d" / "catalogue.json").unlink()
    assert prepare(replace(raw, digest="other"), tmp_path / "d")[1] is False


def test_provenance_counts_what_was_read_and_what_is_left(tmp_path: Path, ml100k_folder: Path) -> None:
    raw = ml100k.load(ml100k_folder)
    provenance, _ = prepare(raw, tmp_path / "d")
    prepared = load_prepared(tmp_path / "d")
    counts = provenance["counts"]
    assert counts["interactions_before"] == len(raw.users)
    assert (counts["users"], counts["items"]) == (len(prepared.users), len(prepared.items))
    assert counts["interactions"] == prepared.user_starts[-1] == len(prepared.columns["items"])
    assert np.bincount(prepared.columns["items"])[1:].min() >= 5


def test_behaviours_are_the_same_interactions_with_public_ids(tmp_path: Path, ml100k_folder: Path) -> None:
    prepare(ml100k.load(ml100k_folder), tmp_path / "d")
    prepared = load_prepared(tmp_path / "d")
    with (tmp_path / "d" / "behaviours.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    users = np.repeat(np.arange(len(prepared.users)), np.diff(prepared.user_starts))
    assert [row["user_id"] for row in rows] == [prepared.users.ids[user] for user in users]
    assert prepared.items.indices([row["item_id"] for row in rows]).tolist() == prepared.columns["items"].tolist()
    assert [int(row["ts"]) for row in rows] == prepared.columns["times_ms"].tolist()
    assert {row["action"] for row in rows} == {"rate"}
    assert [float(row["value"]) * 10 for row in rows] == prepared.columns["values"].tolist()


def test_the_catalogue_names_every_item(tmp_path: Path, ml100k_folder: Path) -> None:
    prepare(ml100k.load(ml100k_folder), tmp_path / "d")
    document = json.loads((tmp_path / "d" / "catalogue.json").read_text(encoding="utf-8"))
    assert set(document["items"]) == set(load_prepared(tmp_path / "d").items.ids)
    facts = {"title": "Film 2 (1982)", "year": 1982, "genres": ["Comedy"]}
    assert document["items"]["2"] == {**facts, "first_seen": 880_000_000_000}


def test_the_catalogue_has_features_and_first_times_for_rules(tmp_path: Path) -> None:
    log = write_news(tmp_path / "raw")
    opened, mapping = open_log(log)
    provenance, _ = prepare(load(opened, mapping, log, tmp_path), tmp_path / "d", core=1)
    items = json.loads((tmp_path / "d" / "catalogue.json").read_text(encoding="utf-8"))["items"]
    prepared = load_prepared(tmp_path / "d")
    with (tmp_path / "raw" / "articles.csv").open(newline="") as file:
        articles = {row["article"]: row for row in csv.DictReader(file)}
    columns, shown = prepared.columns, prepared.impressions
    assert shown is not None
    indices, times = (np.concatenate([columns[name], shown[name]]) for name in ("items", "times_ms"))
    for index, item in enumerate(prepared.items.ids, start=1):
        assert items[item]["category"] == articles[item]["category"]
        assert set(items[item].get("tags", [])) <= set(articles[item]["tags"].split("|"))
        assert items[item]["words"] == float(articles[item]["words"])
        assert items[item]["first_seen"] == times[indices == index].min()
        assert not {"content"} & items[item].keys()
    assert provenance["item_facts"] == ["category", "words", "tags", "first_seen"]


def test_older_prepared_data_get_their_facts_when_prepared_again(tmp_path: Path, ml100k_folder: Path) -> None:
    first, _ = prepare(ml100k.load(ml100k_folder), tmp_path / "d")
    path = tmp_path / "d" / "provenance.json"
    path.write_text(json.dumps({name: value for name, value in first.items() if name != "item_facts"}))
    (tmp_path / "d" / "catalogue.json").write_text('{"items": {}}')
    again, is_reused = prepare(ml100k.load(ml100k_folder), tmp_path / "d")
    assert (again["digest"], is_reused) == (first["digest"], False)
    assert "first_seen" in (tmp_path / "d" / "catalogue.json").read_text()


def test_features_are_codes_below_their_cardinality() -> None:
    catalogue = {
        "a": ItemFacts("The Night Train", ("War", "Drama"), 1990),
        "b": ItemFacts("Night Boat", ("Drama",), None),
        "c": ItemFacts(),
    }
    features = item_features(["a", "b", "c"], catalogue)
    assert features["genres"].names == ("Drama", "War")
    assert features["genres"].codes.tolist() == [[0, 0], [2, 1], [1, 0], [0, 0]]
    assert features["year"].codes.tolist() == [[0], [1], [0], [0]]
    assert features["title"].names == ("night",)


def test_a_source_has_fields_of_its_own() -> None:
    catalogue = {
        "a": ItemFacts(features={"tag": ("7", "39", "7"), "author": ("x",)}),
        "b": ItemFacts(features={"tag": ("39",), "colour": ()}),
    }
    features = item_features(["b", "a", "c"], catalogue)
    assert set(features) == {"tag", "author"}
    assert features["tag"].names == ("39", "7")
    assert features["tag"].codes.tolist() == [[0, 0], [1, 0], [2, 1], [0, 0]]
    assert features["author"].codes.tolist() == [[0], [0], [1], [0]]


def test_a_field_of_thousands_of_values_keeps_those_that_two_items_share() -> None:
    catalogue = {
        str(item): ItemFacts(features={"author": (str(item // 2 if item < 6 else item),)}) for item in range(2100)
    }
    features = item_features(list(catalogue), catalogue)["author"]
    assert features.names == ("0", "1", "2")
    assert features.codes[:8, 0].tolist() == [0, 1, 1, 2, 2, 3, 3, 0]


def test_fields_that_nothing_is_known_of_are_absent(tmp_path: Path) -> None:
    prepare(_interactions([("u", "a", 1), ("u", "b", 2)]), tmp_path / "toy", core=1)
    prepared = load_prepared(tmp_path / "toy")
    assert prepared.features == prepared.cardinalities == {}


def test_a_core_that_leaves_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no user and item has 5 interactions"):
        prepare(_interactions([("u", "a", 1)]), tmp_path / "toy")


def test_data_that_are_not_prepared_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="python -m training prepare ml-100k"):
        load_prepared(tmp_path / "ml-100k")
