"""Progress of a report on stderr."""

from __future__ import annotations

import io
import sys

import pytest

from analysis.commands import progress


class Terminal(io.StringIO):
    """A stderr in a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    shown = progress.Shown(2)
    shown("events", 0.0)
    shown("events", 0.5)
    shown("sessions", 1.0)
    shown.end()
    lines = [one.strip() for one in screen.getvalue().split("\r") if one.strip()]
    assert lines == ["1/2 events 0%", "1/2 events 50%", "2/2 sessions 100%"]
    assert "\n" not in screen.getvalue()


def test_elsewhere_a_line_is_written_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    log, now = io.StringIO(), [0.0]
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = progress.Shown(2)
    for second in range(12):
        now[0] = float(second)
        shown("events", second / 12)
    shown.end()
    assert log.getvalue() == "1/2 events 42%\n1/2 events 83%\n"
