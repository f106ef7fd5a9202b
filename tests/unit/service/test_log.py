"""The log: one JSON object a line, whatever is in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from service.log import MAX_VALUE_LENGTH, configure_logging
from service.settings import LoggingSettings


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = list(root.handlers), root.level, logging.raiseExceptions
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_hostile_values_stay_inside_their_string(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LoggingSettings())
    hostile = 'x\n{"event": "forged", "level": "error"}\r\x1b[31m\u2028\x00\ud800"'
    structlog.get_logger("t").warning("something", value=hostile)
    [line] = lines(capsys)
    assert (line["event"], line["level"], line["value"]) == ("something", "warning", hostile)


def test_long_values_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LoggingSettings())
    structlog.get_logger("t").warning("something", value="x" * 1_000_000)
    [line] = lines(capsys)
    assert len(str(line["value"])) == MAX_VALUE_LENGTH + 1


def test_the_libraries_lines_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LoggingSettings())
    logging.getLogger("uvicorn.error").warning("odd %s", "request\nof two lines")
    logging.getLogger("uvicorn.error").info("not said")
    [line] = lines(capsys)
    assert line["event"] == "odd request\nof two lines"


def test_an_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LoggingSettings())
    try:
        raise ValueError("inner\nmessage")
    except ValueError:
        structlog.get_logger("t").exception("request_failed", request_id="r")
    [line] = lines(capsys)
    assert "Traceback" in str(line["exception"])
    assert line["request_id"] == "r"


def test_the_level_is_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LoggingSettings(level="warning"))
    structlog.get_logger("t").info("quiet")
    structlog.get_logger("t").warning("loud")
    assert [line["event"] for line in lines(capsys)] == ["loud"]
