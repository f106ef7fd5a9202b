"""Progress of a report on stderr."""

from __future__ import annotations

import io
import sys
from functools import partial

import pytest

from analysis.commands import progress
from contract.progress import Progress


def test_the_stages_of_a_report_are_numbered_and_share_one_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    log, now = io.StringIO(), [0.0]
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress, "Progress", partial(Progress, clock=lambda: now[0]))
    shown = progress.Shown(2)
    for second, (stage, share) in enumerate([("events", 0.5), ("events", 1.0), ("sessions", 0.5)], start=1):
        now[0] = 10.0 * second
        shown(stage, share)
    shown.end()
    assert log.getvalue().splitlines() == [
        "1/2 events  25%  10 s, 30 s left",
        "1/2 events  50%  20 s, 20 s left",
        "2/2 sessions  75%  30 s, 10 s left",
    ]
