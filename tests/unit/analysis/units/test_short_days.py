"""Simulated days of a few real seconds: the numbers are those of whole days, for any time of the events."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.rules import DAY, Study
from analysis.units.table import compute
from tests.support.event_tables import Events, exposure, write_rows

NOW = 1_795_564_800_000  # November 2026, a whole number of days of 5, 20 and 86,400 seconds


@pytest.mark.parametrize("day_ms", [5_000, 20_000, DAY])
def test_a_visit_on_each_of_two_days_has_the_length_of_its_simulated_time(tmp_path: Path, day_ms: int) -> None:
    def real(day: int, seconds: int) -> int:
        return NOW + day * day_ms + seconds * day_ms // 86_400

    events = Events()
    write_rows(tmp_path, "exposures", [exposure(ts=real(0, 21_600))])
    for day in (0, 1):
        for seconds, kind in ((21_600, "foreground"), (21_660, "heartbeat"), (21_708, "background")):
            events.add(kind, real(day, seconds), tz_offset=0)
    events.add("foreground", real(9, 0), unit="another")
    write_rows(tmp_path, "activity", events.rows)
    tables = compute(tmp_path, Study("e", 7, day_ms=day_ms))
    [day] = [one["value"] for one in tables.counts.to_pylist() if one["subject"] == "day"]
    assert day == ("2026-11-25" if day_ms == DAY else "simulated day 1")
    [row] = tables.units.to_pylist()
    assert (row["complete"], row["active_days"], row["active_hours"]) == (True, 2, 2)
    error = 2 * 86_400 / (day_ms / 1_000) / 1_000  # a visit's two ends are known to a real millisecond
    assert row["stay_duration"] == pytest.approx(2 * 108, abs=2 * error)
