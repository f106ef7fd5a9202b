"""From a log with attributes of requests to a model that reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.bundle.context import ContextCoder, RequestFacts
from tests.support.device_log import write_device_log
from tests.support.own_files import write_rows
from training.__main__ import main
from training.data.files import own
from training.data.known import read_known
from training.data.prepare import Prepared, load_prepared, prepare
from training.data.sources import MappingOptions, read_source
from training.recipe import ContextRecipe, RecipeError, parse_recipe
from training.rows.context import context_codes, context_specs
from training.rows.split import Rows, SplitError, every_row, impressions, instances, split

pytestmark = pytest.mark.usefixtures("no_curves")

TS = 1_700_000_000_000  # 22:13:20 UTC
HOUR_MS = 3_600_000
RECIPE = """dataset = "films"
model = "sasrec"
[config]
length = 8
width = 16
blocks = 1
inner = 16
[split]
protocol = "leave_last_out"
held = 3
[training]
epochs = 4
batch = 64
learning_rate = 0.01
"""


def prepared_of(folder: Path, path: Path, *overrides: str, after: Path | None = None) -> Prepared:
    source = read_source(str(path), None, folder, mapping=MappingOptions(None, overrides))
    known = () if after is None else (read_known(after),)
    prepare(source.interactions, folder / "data" / source.name, 1, *known)
    return load_prepared(folder / "data" / source.name)


def row(user: str, item: str, hours: float, **more: Any) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "ts": TS + round(hours * HOUR_MS), **more}


ROWS = [
    row("a", "x", 0, device="ios"),
    row("a", "y", 1, device="web", action="impression"),
    row("a", "y", 1.001, device="ios", country="DE"),
    row("a", "z", 5, device=""),
    row("b", "x", 2, device="web", country="DE"),
    row("b", "z", 2.5, device="ios", country="FR"),
]
SPECS = ("context=['device', 'country']",)


def test_the_attributes_of_an_event_go_with_its_row(tmp_path: Path) -> None:
    data = prepared_of(tmp_path, write_rows(tmp_path / "log.csv", ROWS), *SPECS)
    assert data.attributes == {"device": ("ios", "web"), "country": ("DE", "FR")}
    specs = context_specs(data, ContextRecipe(hour=True, gap=True, attributes=("device", "country")))
    assert [spec.name for spec in specs] == ["hour", "gap", "device", "country"]
    rows = instances(data)
    #                 hour gap device country
    expected = [("y", [24, 12, 1, 1]), ("z", [1, 11, 1, 2]), ("z", [4, 14, 0, 0])]  # gaps: 3,603, 1,800 and 14,396 s
    codes = context_codes(data, specs, rows).tolist()
    assert sorted(zip((data.items.ids[item - 1] for item in rows.items.tolist()), codes, strict=True)) == expected


def test_impressions_have_the_attributes_of_their_own_request(tmp_path: Path) -> None:
    data = prepared_of(tmp_path, write_rows(tmp_path / "log.csv", ROWS), *SPECS)
    (codes,) = context_codes(data, context_specs(data, ContextRecipe(attributes=("device",))), impressions(data))
    assert codes.tolist() == [2]


def test_the_codes_of_training_are_those_of_the_service(tmp_path: Path) -> None:
    data = prepared_of(tmp_path, write_rows(tmp_path / "log.csv", ROWS), *SPECS)
    specs = context_specs(
        data, ContextRecipe(hour=True, gap=True, attributes=("country", "device"), offset_minutes=-90)
    )
    rows = instances(data)
    asked = []
    for place, (start, stop, time_ms) in enumerate(zip(rows.starts, rows.stops, rows.times_ms, strict=True)):
        assert rows.attributes is not None
        told = zip(data.attributes, rows.attributes[place].tolist(), strict=True)
        values = {name: data.attributes[name][code - 1] for name, code in told if code}
        newest = int(data.columns["times_ms"][stop - 1]) if stop > start else None
        asked.append(RequestFacts(int(time_ms), newest, values))
    np.testing.assert_array_equal(ContextCoder(specs).codes(asked), context_codes(data, specs, rows))


def test_an_offset_in_the_log_shifts_the_hour_of_its_event(tmp_path: Path) -> None:
    rows = [row("a", "x", 0), row("a", "y", 0, tz_offset=120), row("a", "z", 0)]
    data = prepared_of(tmp_path, write_rows(tmp_path / "log.csv", rows), "context=['tz_offset']")
    specs = context_specs(data, ContextRecipe(hour=True, offset_minutes=60))
    codes = context_codes(data, specs, instances(data))[:, 0]
    assert sorted(codes.tolist()) == [1, 24]  # 00:13 for y, 23:13 for z


def test_splits_and_joins_keep_each_row_s_attributes(tmp_path: Path) -> None:
    data = prepared_of(tmp_path, write_device_log(tmp_path))

    def fits(rows: Rows) -> bool:
        assert rows.attributes is not None
        phone = data.attributes["device"].index("phone") + 1
        is_phone = rows.attributes[:, 0] == phone
        return [int(data.items.ids[item - 1][1:]) < 20 for item in rows.items.tolist()] == is_phone.tolist()

    parts = [*split(data, "leave_last_out", 2), *split(data, "time"), every_row(data, "time")]
    assert all(fits(rows) for rows in parts)


@pytest.mark.parametrize("core", [1, 2])
def test_a_log_larger_than_memory_has_the_same_attributes(tmp_path: Path, core: int) -> None:
    rows = [*ROWS, {**ROWS[0], "device": "web"}]  # a repeat: the first one's device counts
    path, folders = write_rows(tmp_path / "log.csv", rows), []
    for name, most in (("memory", None), ("disk", 2)):
        log, mapping = own.open_log(path, None, SPECS)
        prepare(own.load(log, mapping, path, tmp_path / "scratch", most), tmp_path / name, core)
        folders.append(load_prepared(tmp_path / name))
    memory, disk = folders
    assert memory.attributes == disk.attributes
    for name, column in memory.columns.items():
        np.testing.assert_array_equal(column, disk.columns[name], name)
    for name, column in (memory.impressions or {}).items():
        assert disk.impressions is not None
        np.testing.assert_array_equal(column, disk.impressions[name], name)
    assert "request.device" in memory.columns


def test_codes_keep_their_meaning_from_day_to_day(tmp_path: Path) -> None:
    first = prepared_of(tmp_path / "one", write_rows(_made(tmp_path / "one") / "log.csv", ROWS), *SPECS)
    later = [
        row("c", "x", 30, device="tv"),
        row("c", "y", 31, device="tv"),
        row("c", "z", 32, device="web", country=""),
    ]
    path = write_rows(_made(tmp_path / "two") / "log.csv", later)
    second = prepared_of(tmp_path / "two", path, *SPECS, after=first.directory)
    assert second.attributes == {"device": ("ios", "web", "tv"), "country": ("DE", "FR")}
    assert instances(second).attributes.tolist() == [[3, 0], [2, 0]]  # type: ignore[union-attr]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_only_the_most_frequent_values_have_a_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.data.attributes.MAX_VALUES", 1)
    data = prepared_of(tmp_path, write_rows(tmp_path / "log.csv", ROWS), *SPECS)
    assert data.attributes == {"device": ("ios",), "country": ("DE",)}
    assert data.provenance["read"]["values_of_device_left_out"] == 1


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (("context=['hour']",), "hour is made from the time of the event"),
        (("context=['browser']",), "column browser of context.browser is missing"),
        (("context=['no good']",), "context"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_named(tmp_path: Path, overrides: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        prepared_of(tmp_path, write_rows(tmp_path / "log.csv", ROWS), *overrides)


def test_a_value_that_is_too_long_is_an_error_with_its_place(tmp_path: Path) -> None:
    rows = [*ROWS, row("c", "x", 3, device="d" * 129)]
    with pytest.raises(ValueError, match="line 8, column device: is longer than 128 characters"):
        prepared_of(tmp_path, write_rows(tmp_path / "log.csv", rows), *SPECS)


def test_a_recipe_without_a_context_keeps_its_digest_and_its_file() -> None:
    document = {"dataset": "d", "model": "sasrec"}
    plain = parse_recipe(document, "r")
    assert "context" not in plain.model_dump(mode="json")
    assert plain.digest() == "1cfef323ad35"  # of before there was a context
    assert parse_recipe({**document, "context": {"hour": True}}, "r").digest() != plain.digest()


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        ({"attributes": ["device", "device"]}, "each one once"),
        ({"attributes": ["tz_offset"]}, "shifts the hour"),
        ({"offset_minutes": 900}, "less than or equal to 840"),
        ({"hours": True}, "unknown key"),
    ],
)
def test_a_context_that_cannot_be_is_named(context: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        parse_recipe({"dataset": "d", "model": "sasrec", "context": context}, "r")


def test_an_attribute_that_the_log_lacks_is_named(tmp_path: Path) -> None:
    data = prepared_of(tmp_path, write_rows(tmp_path / "log.csv", ROWS), *SPECS)
    with pytest.raises(SplitError, match="no attribute 'browser' of its events; there are device, country"):
        context_specs(data, ContextRecipe(attributes=("browser",)))


def _ndcg(folder: Path, name: str, context: str) -> float:
    recipe = folder / f"{name}.toml"
    recipe.write_text(RECIPE + context)
    runs = folder / f"runs-{name}"
    data = str(folder / "data")
    train = ["train", str(recipe), "--data", data, "--out", str(runs), "--threads", "1", "--device", "cpu"]
    assert main(train) == 0
    (run,) = (runs / "films" / "sasrec").iterdir()
    return float(json.loads((run / "metrics.json").read_text())["test"]["ndcg@10"])


def test_a_model_that_reads_the_device_learns_a_taste_that_depends_on_it(tmp_path: Path) -> None:
    prepared_of(tmp_path, write_device_log(tmp_path))
    without = _ndcg(tmp_path, "without", "")
    with_device = _ndcg(tmp_path, "with", '[context]\nattributes = ["device"]\n')
    assert with_device > 1.4 * without
