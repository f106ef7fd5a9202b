"""The log: one JSON object a line, with any content."""

from __future__ import annotations

import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from service.log import MAX_TRACEBACK_LENGTH, MAX_VALUE_LENGTH, logging_to
from service.output.line_writer import LineWriter
from service.settings.logging import LoggingSettings

pytestmark = pytest.mark.usefixtures("log_as_before")


class Log:
    """A log that goes to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def __call__(self, **settings: Any) -> Iterator[LineWriter]:
        with self._path.open("wb") as file, logging_to(LoggingSettings(**settings), file.fileno()) as writer:
            yield writer

    def text(self) -> str:
        return self._path.read_text(encoding="utf-8")

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


def test_hostile_values_stay_inside_their_string(log: Log) -> None:
    with log():
        hostile = 'x\n{"event": "forged", "level": "error"}\r\x1b[31m\u2028\x00\ud800"'
        structlog.get_logger("t").warning("something", value=hostile)
    [line] = log.lines()
    assert (line["event"], line["level"], line["value"]) == ("something", "warning", hostile)


def test_long_values_are_cut(log: Log) -> None:
    with log():
        structlog.get_logger("t").warning("something", value="x" * 1_000_000)
    [line] = log.lines()
    assert len(str(line["value"])) == MAX_VALUE_LENGTH + 1


def test_the_libraries_lines_are_json_too(log: Log) -> None:
    with log():
        logging.getLogger("uvicorn.error").warning("odd %s", "request\nof two lines")
        logging.getLogger("uvicorn.error").info("not said")
    [line] = log.lines()
    assert line["event"] == "odd request\nof two lines"


def test_an_exception_is_one_line(log: Log) -> None:
    with log():
        try:
            raise ValueError("inner\nmessage")
        except ValueError:
            structlog.get_logger("t").exception("request_failed", request_id="r")
    [line] = log.lines()
    assert "Traceback" in str(line["exception"])
    assert line["request_id"] == "r"


def test_the_level_is_a_setting(log: Log) -> None:
    with log(level="warning"):
        structlog.get_logger("t").info("quiet")
        structlog.get_logger("t").warning("loud")
    assert [line["event"] for line in log.lines()] == ["loud"]


def test_a_long_traceback_keeps_its_end(log: Log) -> None:
    with log():
        try:
            raise ValueError("x" * 100_000 + "the end")
        except ValueError:
            structlog.get_logger("t").exception("request_failed")
    [line] = log.lines()
    assert len(line["exception"]) == MAX_TRACEBACK_LENGTH + 1
    assert line["exception"].endswith("the end")


def test_a_line_that_cannot_be_made_is_said_and_harms_no_one(log: Log) -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no text of mine")

    with log():
        structlog.get_logger("t").warning("something", value=Hostile())
        structlog.get_logger("t").warning("twice", method_name="a name that structlog uses too")
        structlog.get_logger("t").warning("next")
        logging.getLogger("uvicorn.error").warning("%d", "not a number")
    assert [line["event"] for line in log.lines()] == ["log_line_failed"] * 2 + ["next"]


def test_everything_that_python_writes_to_its_streams_is_a_log_line(log: Log) -> None:
    def fail() -> None:
        raise ValueError("in a thread")

    streams = sys.stdout, sys.stderr
    with log():
        print("printed\nin two lines")
        print("to standard error", file=sys.stderr)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(False)
            logging.captureWarnings(True)  # pytest has put its own in between
            warnings.warn("a warning", stacklevel=1)
        thread = threading.Thread(target=fail, name="worker")
        thread.start()
        thread.join()
    assert (sys.stdout, sys.stderr) == streams
    first, second, third, warning, failed = log.lines()
    assert [(line["event"], line["text"]) for line in (first, second, third)] == [
        ("stdout", "printed"), ("stdout", "in two lines"), ("stderr", "to standard error"),
    ]  # fmt: skip
    assert "a warning" in warning["event"]
    assert (failed["event"], failed["thread"]) == ("thread_failed", "worker")
    assert "in a thread" in failed["exception"]


def test_lines_for_people_are_text(log: Log) -> None:
    with log(format="console"):
        structlog.get_logger("t").warning("something", value="\ud800")
        logging.getLogger("asyncio").warning("slow")
    first, second = log.text().splitlines()
    assert "something" in first
    assert "slow" in second


def test_the_line_about_dropped_lines_is_like_all_others(log: Log) -> None:
    with log() as writer:
        writer.put(b"x" * 100_000_000)
    [line] = log.lines()
    assert (line["event"], line["level"], line["count"]) == ("log_lines_dropped", "warning", 1)
