"""Several trainings at once: their lines, their bars, and what happens when one fails."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from deploy.processes import StepError
from deploy.trainings import run_side_by_side

SLEEP = ("timeit", "-n1", "-r1", "-s", "import time", "time.sleep(100)")


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, force_terminal=terminal, width=200), written


def prints(text: str) -> tuple[str, ...]:
    return ("timeit", "-n1", "-r1", f"print({text!r})")


def test_lines_of_each_command_are_shown_under_its_title() -> None:
    shown, written = console()
    run_side_by_side({"one": prints("first words"), "two": prints("two says this")}, shown)
    assert "one  first words" in written.getvalue()
    assert "\ntwo says this" in "\n" + written.getvalue()  # it names itself: no title before it


def test_reports_become_a_bar_and_no_line() -> None:
    shown, written = console(terminal=True)
    report = json.dumps({"title": "one", "done": 5, "total": 10, "loss": 1.25, "rate": 1234.0})
    run_side_by_side({"one": prints(report)}, shown)
    assert "loss 1.250" in written.getvalue()
    assert '"done"' not in written.getvalue()


@pytest.mark.timeout(60)
def test_a_failure_is_raised_and_ends_the_others_wherever_it_stands() -> None:
    shown, _ = console()
    with pytest.raises(StepError, match="timeit --no-such-option failed with status 2"):
        run_side_by_side({"long": SLEEP, "bad": ("timeit", "--no-such-option")}, shown)


def test_nothing_to_run_is_nothing_to_do() -> None:
    run_side_by_side({}, console()[0])
