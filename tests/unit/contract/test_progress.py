from __future__ import annotations

import io

import pytest

from contract.progress import Progress, duration


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _told(stream: io.StringIO, seconds: int, total: int = 1000, **options: float) -> None:
    """Do one unit of work a second."""
    clock = Clock()
    with Progress("reading", total, stream=stream, clock=clock, **options) as progress:
        for _ in range(seconds):
            clock.now += 1
            progress.advance(1, "loss 0.5")


def test_elsewhere_than_on_a_terminal_there_is_a_plain_line_every_ten_seconds() -> None:
    stream = io.StringIO()
    _told(stream, seconds=35)
    assert stream.getvalue().splitlines() == [
        "reading  1%  loss 0.5  10 s, 16 min 30 s left",
        "reading  2%  loss 0.5  20 s, 16 min 20 s left",
        "reading  3%  loss 0.5  30 s, 16 min 10 s left",
    ]


def test_work_that_ends_within_ten_seconds_says_nothing_elsewhere() -> None:
    stream = io.StringIO()
    _told(stream, seconds=9, total=9)
    assert stream.getvalue() == ""


def test_on_a_terminal_one_line_moves_and_is_gone_at_the_end() -> None:
    stream = Terminal()
    _told(stream, seconds=5, total=10)
    shown = stream.getvalue()
    assert "\n" not in shown
    assert "reading  50%  loss 0.5  5 s, 5 s left" in shown
    assert shown.split("\r")[-2].isspace()
    assert shown.endswith("\r")


def test_the_time_left_counts_only_what_this_process_has_done() -> None:
    stream = io.StringIO()
    _told(stream, seconds=10, total=100, done=80)
    assert stream.getvalue() == "reading  90%  loss 0.5  10 s, 10 s left\n"


def test_a_quiet_progress_shows_nothing() -> None:
    stream = Terminal()
    _told(stream, seconds=50, quiet=True)
    assert stream.getvalue() == ""


def test_a_task_without_a_size_and_a_title_that_changes() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress("first", 0, stream=stream, clock=clock)
    clock.now = 10
    progress.at(0, title="second")
    assert stream.getvalue() == "second  100%  10 s\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (3_599, "59 min 59 s"), (7_500, "2 h 05 min")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
