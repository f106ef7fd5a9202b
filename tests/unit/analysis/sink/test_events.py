import json
from typing import Any

import pyarrow as pa
import pytest

from analysis.sink.events import ACTIVITY, EXPOSURES, KINDS, RANKINGS, DamagedEventError, Reader
from analysis.tables.schemas import SCHEMAS
from tests.support.sink_process import NOON, activity, exposure, ranking

V1 = {"v": 1, "id": "a", "ts": NOON, "received": NOON, "req": None, "unit": "u", "item": "i", "action": "click",
      "play_ms": None, "value": 4}  # fmt: skip


def changed(event: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(event) | fields).encode()


def test_each_kind_has_a_table_and_its_required_columns() -> None:
    for kind in KINDS:
        assert kind.required | {kind.clock} <= set(SCHEMAS[kind.table].names)


def test_an_exposure_becomes_a_row() -> None:
    row = Reader(EXPOSURES).row(exposure(1))
    assert row.keys() == set(SCHEMAS["exposures"].names)
    assert (row["arm"], row["forced"], row["k"]) == ("control", 0, 20)


@pytest.mark.parametrize(("event", "kind"), [(activity(1), "like"), (json.dumps(V1).encode(), "click")])
def test_both_versions_of_activity_become_rows(event: bytes, kind: str) -> None:
    row = Reader(ACTIVITY).row(event)
    assert (row["type"], row["received"], row["clamped"]) == (kind, NOON, 0)
    assert row.keys() == set(SCHEMAS["activity"].names)


def test_a_ranking_becomes_a_row_with_its_items() -> None:
    row = Reader(RANKINGS).row(ranking(1))
    assert [(item["item"], item["rank"], item["score"]) for item in row["items"]] == [("a", 1, 1.5), ("b", 2, None)]
    table = pa.RecordBatch.from_pylist([row], SCHEMAS["rankings"])
    assert table.to_pylist() == [row]


@pytest.mark.parametrize(
    ("fields", "kind", "reason"),
    [
        ({"scores": [1.0]}, "type", "shorter"),
        ({"items": 7}, "type", "int"),
        ({"items": [7, 8]}, "type", "items.0.item: Input should be a valid string"),
        ({"scores": ["x", "y"]}, "type", "items.0.score: Input should be a valid number"),
        ({"arms": [{"layer": "rank", "slot": 4}]}, "field", "arms.0.slot: Extra inputs are not permitted"),
        ({"latency_us": -(2**70)}, "type", "latency_us"),
        ({"surprise": 1}, "field", "unknown fields: surprise"),
    ],
)
def test_a_damaged_ranking_is_refused(fields: dict[str, Any], kind: str, reason: str) -> None:
    with pytest.raises(DamagedEventError, match=reason) as caught:
        Reader(RANKINGS).row(changed(ranking(1), **fields))
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("event", "kind", "reason"),
    [
        (b"", "json", "not JSON"),
        (b"{", "json", "not JSON"),
        (b"[]", "json", "not a JSON object"),
        (b'{"v": NaN}', "json", "not JSON"),
        (b"\xff\xfe", "json", "not JSON"),
        (exposure(1)[:-9], "json", "not JSON"),
        (b"[" * 100_000, "json", "not JSON"),
        (b"{}", "version", "unknown version: None"),
        (changed(exposure(1), v=2), "version", "unknown version: 2"),
        (changed(exposure(1), v=True), "version", "unknown version: True"),
        (changed(exposure(1), diff=1), "field", "unknown fields: diff"),
        (b'{"v": 1}', "field", "Field required"),
        (changed(exposure(1), unit=None), "type", "unit: Input should be a valid string"),
        (changed(exposure(1), ts=str(NOON)), "type", "ts: Input should be a valid integer"),
        (changed(exposure(1), ts=float(NOON)), "type", "ts: Input should be a valid integer"),
        (changed(exposure(1), forced=128), "type", "forced: Input should be less than 128"),
        (changed(exposure(1), k=2**31), "type", "k: Input should be less than"),
        (changed(exposure(1), ts=10**30), "type", "ts"),
        (changed(exposure(1), ts=10**15), "time", "ts is before 1971 or after 2099"),
        (changed(exposure(1), ts=-1), "time", "ts is before 1971 or after 2099"),
    ],
)
def test_a_damaged_event_is_refused_with_its_reason(event: bytes, kind: str, reason: str) -> None:
    with pytest.raises(DamagedEventError, match=reason) as caught:
        Reader(EXPOSURES).row(event)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"ts": "now"}, "type"),
        ({"play_ms": "4"}, "type"),
        ({"value": True}, "type"),
        ({"unit": 7}, "type"),
        ({"surprise": 1}, "field"),
        ({"v": 3}, "version"),
        ({"received": -5}, "time"),
    ],
)
@pytest.mark.parametrize("event", [activity(1), json.dumps(V1).encode()])
def test_damaged_activity_is_refused(event: bytes, fields: dict[str, Any], kind: str) -> None:
    with pytest.raises(DamagedEventError) as caught:
        Reader(ACTIVITY).row(changed(event, **fields))
    assert caught.value.kind == kind


@pytest.mark.parametrize("name", ["id", "ts", "received", "unit", "type"])
def test_activity_without_a_field_that_every_event_has_is_refused(name: str) -> None:
    fields = json.loads(activity(1))
    del fields[name]
    with pytest.raises(DamagedEventError, match=name) as caught:
        Reader(ACTIVITY).row(json.dumps(fields).encode())
    assert caught.value.kind == "field"
