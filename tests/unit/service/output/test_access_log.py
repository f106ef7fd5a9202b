"""The access line is the one that structlog writes for the same values, byte for byte, but for the time in it."""

from __future__ import annotations

import os
import re
import tempfile
from typing import Any

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from service.log import access_log, logging_to
from service.output.access_log import AccessLog
from service.settings.logging import LoggingSettings

pytestmark = pytest.mark.usefixtures("log_as_before")

TIME = re.compile(
    rb'"timestamp": ?"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z"|^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z'
)
PLAIN: dict[str, Any] = {
    "request_id": "0123456789abcdef", "method": "POST", "route": "/rank", "status": 200, "variant": "a:control",
}  # fmt: skip
FULL: dict[str, Any] = {
    **PLAIN, "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "model": "mgnm@7", "candidates": 200,
    "degraded": ["store_unavailable", "popularity"], "code": "internal",
}  # fmt: skip
TEXTS = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(['"\\', "\u2028", "\ud800", "é", "x" * 3_000])


def written(fields: dict[str, Any], seconds: float, worker: int | None = None, **settings: Any) -> list[bytes]:
    """Return the lines of the access log and of structlog, without times."""
    chosen = LoggingSettings(**settings)
    with tempfile.TemporaryFile() as file:
        with logging_to(chosen, file.fileno(), worker) as writer:
            access_log(chosen, writer, worker).request(**fields, seconds=seconds)
            common = {name: fields[name] for name in ("request_id", "method", "route", "status")}
            rest = {name: value for name, value in fields.items() if name not in common and value not in (None, [])}
            structlog.get_logger("t").info(
                "request", **common, duration_ms=round(seconds * 1000, 3), variant=rest.pop("variant"), **rest
            )
        file.seek(0)
        lines = file.read().splitlines()
    return [TIME.sub(b"TIME", line) for line in lines]


@pytest.mark.parametrize("fields", [PLAIN, FULL, {**PLAIN, "status": 499, "code": "gone"}])
@pytest.mark.parametrize("seconds", [0.0, 0.0023456, 1.0, 12345.6789])
def test_line_is_structlogs(fields: dict[str, Any], seconds: float) -> None:
    line, expected = written(fields, seconds)
    assert b"TIME" in line
    assert line == expected


@pytest.mark.parametrize("fields", [PLAIN, {**PLAIN, "route": "é"}])
def test_line_of_a_worker_has_its_number(fields: dict[str, Any]) -> None:
    line, expected = written(fields, 0.001, worker=3)
    assert line.replace(b" ", b"").endswith(b'"worker":3}')
    assert line == expected


@given(st.fixed_dictionaries({name: TEXTS for name, value in FULL.items() if isinstance(value, str)}))
@example({**FULL, "model": "é@1"})
@example({**FULL, "variant": 'x\n{"event": "forged"}\r\x1b[31m\x00'})
@example({**FULL, "route": "x" * 2_001})
def test_hostile_values_are_written_as_structlog_writes_them(texts: dict[str, str]) -> None:
    line, expected = written({**FULL, **texts}, 0.002)
    assert line == expected
    assert line.isascii()


def test_text_for_people_is_structlogs() -> None:
    line, expected = written(FULL, 0.002, format="console")
    assert line == expected
    assert b"request_id=0123456789abcdef" in re.sub(rb"\x1b\[\d*m", b"", line)


@pytest.mark.parametrize("settings", [{"access": False}, {"level": "warning"}])
def test_no_line_is_written_where_none_is_wanted(settings: dict[str, Any]) -> None:
    chosen = LoggingSettings(**settings)
    with tempfile.TemporaryFile() as file:
        with logging_to(chosen, file.fileno()) as writer:
            access_log(chosen, writer).request(**FULL, seconds=0.001)
        assert os.fstat(file.fileno()).st_size == 0


def test_line_does_not_pass_through_structlog(monkeypatch: pytest.MonkeyPatch) -> None:
    """The point of it: structlog takes several times as long."""
    with tempfile.TemporaryFile() as file:
        with logging_to(LoggingSettings(), file.fileno()) as writer:
            monkeypatch.setattr(structlog, "get_logger", None)
            AccessLog(writer).request(**FULL, seconds=0.001)
        file.seek(0)
        assert file.read().count(b"\n") == 1
