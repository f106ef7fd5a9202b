"""A mapping: where it comes from, the meaning of its keys, and its errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from contract.behaviours.actions import ACTIONS
from contract.files import read_object
from tests.support.own_files import write_rows
from training.data.datasets.interactions import DataError, Interactions
from training.data.prepare import prepare
from training.data.sources import MappingOptions, read_source

ROWS = [
    {"uid": "u", "sku": "a", "at": 1_700_000_000, "what": "add_to_cart"},
    {"uid": "u", "sku": "b", "at": 1_700_000_060, "what": "purchase"},
    {"uid": "v", "sku": "b", "at": 1_700_000_090, "what": "scroll"},
]
MAPPING = """
[columns]
user = "uid"
item = "sku"
time = "at"
action = "what"
[time]
format = "seconds"
[actions]
add_to_cart = "like"
scroll = "ignore"
"""


def read(path: Path, file: Path | None = None, *overrides: str) -> Interactions:
    found = read_source(str(path), None, path.parent, None, MappingOptions(file, overrides)).interactions
    assert isinstance(found, Interactions)
    return found


def actions(found: Interactions) -> list[str]:
    return [ACTIONS[code - 1] for code in found.actions.tolist()]


def test_a_mapping_beside_the_file_is_used(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "shop.csv", ROWS)
    (tmp_path / "shop.toml").write_text(MAPPING)
    found = read(path)
    assert (list(found.users), list(found.items)) == (["u", "u"], ["a", "b"])
    assert found.times_ms.tolist() == [1_700_000_000_000, 1_700_000_060_000]
    assert actions(found) == ["like", "purchase"]
    assert found.read["ignored_actions"] == 1


def test_prepared_features_keep_the_kinds_of_the_mapping(tmp_path: Path) -> None:
    rows = [row | {"head": "Cup final tonight", "price": 3 + place} for place, row in enumerate(ROWS)]
    path = write_rows(tmp_path / "shop.jsonl", rows)
    kinds = '[features]\nhead = {kind = "words"}\nprice = {kind = "number", edges = [4]}\n'
    (tmp_path / "shop.toml").write_text(MAPPING + kinds)
    prepare(read(path), tmp_path / "prepared", core=1)
    described = read_object(tmp_path / "prepared" / "features.json")
    assert (described["head"]["kind"], described["price"]["kind"]) == ("words", "number")
    assert described["price"]["edges"] == [4.0]


def test_a_named_mapping_comes_before_it_and_flags_before_both(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "shop.jsonl", ROWS)
    (tmp_path / "shop.toml").write_text("nonsense = 1")
    (tmp_path / "other.toml").write_text(MAPPING)
    assert actions(read(path, tmp_path / "other.toml")) == ["like", "purchase"]
    found = read(path, tmp_path / "other.toml", "actions.add_to_cart=share", "actions.scroll=click")
    assert actions(found) == ["share", "purchase", "click"]


def test_another_mapping_is_another_data_set(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "shop.csv", ROWS)
    (tmp_path / "shop.toml").write_text(MAPPING)
    assert read(path).digest == read(path).digest
    assert read(path).digest != read(path, None, "actions.add_to_cart=share").digest


def test_rows_without_an_action_have_the_default_one(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "shop.tsv", [{"user": "u", "item": "a", "ts": 1_700_000_000_000}])
    assert actions(read(path)) == ["click"]
    assert actions(read(path, None, "default_action=purchase")) == ["purchase"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[columns]\nusr = 'uid'", "columns.usr: unknown key"),
        ("[actions]\nview = 'look'", "actions.view: 'look' is not one of impression, click"),
        ("[time]\nformat = 'days'", "time.format"),
        ("[time]\nzone = 'Mars/Base'", "time.zone: no time zone 'Mars/Base'"),
        ("[features]\nshelf = {kind = 'colour'}", "features.shelf"),
        ("[features]\nprice = {kind = 'number', edges = [3, 2]}", "edges must rise"),
        ("[impressions]\nwindow_s = 0", "impressions.window_s"),
        ("= 3", "Invalid statement"),
    ],
)
def test_a_bad_mapping_names_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = write_rows(tmp_path / "shop.csv", ROWS)
    (tmp_path / "shop.toml").write_text(text)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "shop.toml"))) as error:
        read(path)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [("columns", "write KEY=VALUE"), ("columns.user.x=1", "user"), ("play_unit=hours", "--map: play_unit")],
)
def test_a_bad_flag_is_an_error(tmp_path: Path, override: str, message: str) -> None:
    path = write_rows(tmp_path / "shop.csv", ROWS)
    with pytest.raises(DataError, match=message):
        read(path, None, "columns.user=uid", override)


def test_a_missing_mapping_or_file_of_items_is_an_error(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "shop.csv", ROWS)
    with pytest.raises(DataError, match="no such mapping"):
        read(path, tmp_path / "none.toml")
    (tmp_path / "shop.toml").write_text(MAPPING + "[items]\nfile = 'none.csv'")
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        read(path)


def test_a_time_column_of_another_name_needs_a_format(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "shop.csv", ROWS)
    with pytest.raises(DataError, match=r"column at: name the format of its times: time\.format"):
        read(path, None, "columns.user=uid", "columns.item=sku", "columns.time=at")
