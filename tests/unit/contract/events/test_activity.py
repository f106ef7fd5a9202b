"""Activity: the fields that each type requires, and events of both versions as rows."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from analysis.tables.schemas import ACTIVITY
from contract.events.activity import REQUIRED, ActivityReport, ActivityType, activity_event, activity_row, missing_field

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
ALL: ActivityReport = {
    "user_id": "u1", "type": "play_end", "event_id": "e1", "ts": NOW_MS - 5, "item_id": "i1", "author_id": "a1",
    "device_id": "d1", "view_id": "v1", "request_id": "r1", "play_ms": 900, "duration_ms": 1_000, "tz_offset": 480,
    "value": 1.5,
}  # fmt: skip


def name(person: str) -> str:
    return f"h:{person}"


def event(report: Any) -> dict[str, Any]:
    return activity_event(report, "id", NOW_MS, name)


def test_every_type_has_its_required_fields() -> None:
    assert set(REQUIRED) == set(get_args(ActivityType))
    for kind, required in REQUIRED.items():
        report: Any = {"user_id": "u1", "type": kind} | {fields[0]: 1 for fields in required}
        assert missing_field(report) is None
        for fields in required:
            field, message = missing_field({key: value for key, value in report.items() if key != fields[0]}) or (
                "",
                "",
            )  # type: ignore[typeddict-item]
            assert field == fields[0]
            assert message == f"{' or '.join(fields)} is required for {kind}"


@pytest.mark.parametrize("field", ["author_id", "item_id"])
def test_a_follow_names_an_author_or_an_item(field: str) -> None:
    report: Any = {"user_id": "u1", "type": "follow", field: "1"}
    assert missing_field(report) is None


def test_an_event_has_the_fields_that_were_sent_and_pseudonyms_of_persons() -> None:
    assert event(ALL) == {
        "v": 2, "id": "id", "ts": NOW_MS - 5, "received": NOW_MS, "unit": "h:u1", "type": "play_end",
        "author": "h:a1", "device": "h:d1", "req": "r1", "item": "i1", "view": "v1", "play_ms": 900,
        "duration_ms": 1_000, "tz_offset": 480, "value": 1.5,
    }  # fmt: skip
    assert event({"user_id": "u1", "type": "heartbeat"}) == {
        "v": 2, "id": "id", "ts": NOW_MS, "received": NOW_MS, "unit": "h:u1", "type": "heartbeat",
    }  # fmt: skip


def test_rows_of_both_versions_have_the_columns_of_the_table() -> None:
    old = event({"user_id": "u1", "item_id": "i1", "action": "rate", "value": 4.5, "request_id": "r1"})
    assert "type" not in old
    for row in (activity_row(old), activity_row(event(ALL)), activity_row(event({"user_id": "u", "type": "publish"}))):
        assert list(row) == ACTIVITY.names
    assert {key: value for key, value in activity_row(old).items() if value is not None} == {
        "id": "id", "ts": NOW_MS, "received": NOW_MS, "clamped": 0, "unit": "h:u1", "type": "rate", "item": "i1",
        "req": "r1", "value": 4.5,
    }  # fmt: skip
    assert activity_row(event(ALL))["duration_ms"] == 1_000


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (NOW_MS - DAY_MS, NOW_MS - DAY_MS),
        (NOW_MS - DAY_MS - 1, NOW_MS - DAY_MS),
        (NOW_MS + DAY_MS, NOW_MS + DAY_MS),
        (NOW_MS + DAY_MS + 1, NOW_MS + DAY_MS),
    ],
)
def test_a_time_more_than_a_day_away_is_moved_and_the_sent_one_kept(sent: int, kept: int) -> None:
    made = event({"user_id": "u1", "type": "foreground", "ts": sent})
    assert made["ts"] == kept
    assert made.get("sent") == (sent if sent != kept else None)
    for row in (
        activity_row(made),
        activity_row(event({"user_id": "u", "item_id": "i", "action": "like", "ts": sent})),
    ):
        assert (row["ts"], row["clamped"]) == (kept, int(sent != kept))


def test_a_version_of_a_later_writer_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="version 3"):
        activity_row({**event(ALL), "v": 3})
