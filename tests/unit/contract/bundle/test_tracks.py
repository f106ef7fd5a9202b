"""The file of a track."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contract.bundle.tracks import KEPT, TrackError, promote, read_track, track_file

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def test_a_promoted_version_is_in_force_and_the_one_before_it_is_kept(tmp_path: Path) -> None:
    assert read_track(tmp_path, "mgnm", "daily") is None
    promote(tmp_path, "mgnm", "daily", "1", "first", NOON)
    promote(tmp_path, "mgnm", "daily", "2", "better", NOON)
    found = read_track(tmp_path, "mgnm", "daily")
    assert found is not None
    assert (found.version, [one.version for one in found.before]) == ("2", ["1"])
    assert (found.promotion.reason, found.promotion.promoted_at) == ("better", "2026-11-26T12:00:00Z")


def test_the_file_has_the_form_of_the_decision_record(tmp_path: Path) -> None:
    promote(tmp_path, "mgnm", "daily", "1", "first", NOON)
    promotion = {"version": "1", "promoted_at": "2026-11-26T12:00:00Z", "reason": "first"}
    assert json.loads((tmp_path / "mgnm" / "tracks" / "daily.json").read_text()) == {
        "schema": 1, "model": "mgnm", "track": "daily", "promotion": promotion, "before": [],
    }  # fmt: skip


def test_a_version_in_force_is_not_promoted_twice(tmp_path: Path) -> None:
    first = promote(tmp_path, "mgnm", "daily", "1", "first", NOON)
    assert promote(tmp_path, "mgnm", "daily", "1", "again") == first
    assert read_track(tmp_path, "mgnm", "daily") == first


def test_old_promotions_are_dropped(tmp_path: Path) -> None:
    for number in range(KEPT + 5):
        promote(tmp_path, "mgnm", "daily", str(number), "")
    found = read_track(tmp_path, "mgnm", "daily")
    assert found is not None
    assert [one.version for one in found.before] == [str(number) for number in range(KEPT + 3, 3, -1)]


@pytest.mark.parametrize(("model", "track"), [("mgnm", "../daily"), ("mgnm", ""), ("a/b", "daily"), ("..", "daily")])
def test_a_name_that_could_leave_the_folder_is_refused(tmp_path: Path, model: str, track: str) -> None:
    with pytest.raises(TrackError, match="not a valid name"):
        promote(tmp_path, model, track, "1", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"schema": 2}', b"\xff\xfe"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = track_file(tmp_path, "mgnm", "daily")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(TrackError, match=r"daily\.json: damaged"):
        read_track(tmp_path, "mgnm", "daily")


def test_the_file_of_another_track_is_refused(tmp_path: Path) -> None:
    promote(tmp_path, "mgnm", "daily", "1", "")
    track_file(tmp_path, "mgnm", "daily").rename(track_file(tmp_path, "mgnm", "weekly"))
    with pytest.raises(TrackError, match="it is of mgnm, track daily"):
        read_track(tmp_path, "mgnm", "weekly")
