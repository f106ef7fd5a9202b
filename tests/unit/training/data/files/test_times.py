"""Times in every format are milliseconds since the epoch; a time without a zone is refused unless one is named."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from training.data.files.times import Format, times_ms

TS = 1_700_000_000_000  # 2023-11-14T22:13:20Z
LATEST = 1_800_000_000_000


@pytest.mark.parametrize(
    ("cell", "form", "zone", "expected"),
    [
        (str(TS), "ms", None, TS),
        (TS, "ms", None, TS),
        ("1700000000.5", "seconds", None, TS + 500),
        (1_700_000_000, "seconds", None, TS),
        ("2023-11-14T22:13:20Z", "iso", None, TS),
        ("2023-11-14T22:13:20.123Z", "iso", None, TS + 123),
        ("2023-11-14 23:13:20+01:00", "iso", None, TS),
        ("2023-11-14T23:13:20", "iso", "Europe/Berlin", TS),
        ("2023-11-14T22:13:20Z", "iso", "Europe/Berlin", TS),  # its own zone counts
        ("2023-07-01T02:00:00", "iso", "Europe/Berlin", 1_688_169_600_000),  # summer time
        (datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), "iso", None, TS),
    ],
)
def test_a_time_is_the_same_moment_in_every_format(cell: object, form: Format, zone: str | None, expected: int) -> None:
    found, bad = times_ms([cell], form, zone, LATEST)
    assert (found.tolist(), bad) == ([expected], {})


@pytest.mark.parametrize(
    ("cell", "form", "message"),
    [
        ("2023-11-14T22:13:20", "iso", "names no time zone; set time.zone"),
        ("2023-11-14", "iso", "names no time zone"),
        ("14.11.2023", "iso", "is not an ISO 8601 time"),
        ("", "iso", "is empty"),
        (None, "ms", "is empty"),
        (1_700_000_000, "iso", "is not an ISO 8601 time"),
        ("1969-01-01T00:00:00Z", "iso", "is before 1971"),
        ("2099-01-01T00:00:00Z", "iso", "in the future"),
        (1_700_000_000, "ms", "is before 1971 in milliseconds; seconds are time.format = seconds"),
        (TS, "seconds", "milliseconds are time.format = ms"),
        (float("nan"), "ms", "is empty"),
    ],
)
def test_a_wrong_time_has_a_reason(cell: object, form: Format, message: str) -> None:
    _, bad = times_ms([TS if form == "ms" else "2023-11-14T22:13:20Z", cell], form, None, LATEST)
    assert message in bad[1][1]
