"""Logging: one JSON object a line on standard output, the libraries' lines included.

Event names are snake_case and never formatted; variable parts are in fields. A value that a caller could choose is cut,
and a line break in it stays inside its JSON string, so that a caller cannot forge a line. User ids are never logged.

Logging never waits and never raises: a line that cannot be rendered is replaced by a notice, and a separate
thread writes them (service/output/line_writer.py).

Our own lines go straight to bytes, not by way of the standard library's logging; the access line goes round structlog
too (service/output/access_log.py).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from service.output.access_log import AccessLog
from service.output.line_writer import LineWriter
from service.output.standard_streams import captured_streams
from service.settings.logging import LoggingSettings

MAX_VALUE_LENGTH: Final = 2_000
MAX_TRACEBACK_LENGTH: Final = 16_000
_LIBRARIES: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio")
_STDOUT: Final = 1


@contextmanager
def logging_to(settings: LoggingSettings, descriptor: int = _STDOUT, worker: int | None = None) -> Iterator[LineWriter]:
    """Log to a descriptor, with everything that Python would write to standard output or standard error.

    At the end the last lines are written, within a second, and both streams are as before.
    """
    writer = LineWriter(descriptor, max_bytes=settings.buffer_bytes)
    try:
        configure_logging(settings, writer, worker)
        with captured_streams():
            yield writer
    finally:
        writer.close()


def access_log(settings: LoggingSettings, writer: LineWriter | None, worker: int | None = None) -> AccessLog:
    """Return the writer of access lines.

    Args:
        settings: of the log.
        writer: of `logging_to`; None if structlog was configured elsewhere.
        worker: number of this worker, if there are several.
    """
    is_on = settings.access and logging.getLevelNamesMapping()[settings.level.upper()] <= logging.INFO
    return AccessLog(writer if settings.format == "json" else None, is_on=is_on, worker=worker)


def configure_logging(settings: LoggingSettings, writer: LineWriter, worker: int | None = None) -> None:
    """Set up structlog and the standard library's logging; the lines of a worker have its number."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _cut,
        *([] if worker is None else [_numbered(worker)]),
    ]
    render = _as_bytes if settings.format == "json" else _as_text()
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=_never_raising(structlog.make_filtering_bound_logger(level), writer),
        logger_factory=lambda *_: _Lines(writer),
        cache_logger_on_first_use=True,
    )
    writer.notice = lambda count: _notice(shared, render, count)
    _configure_libraries(shared, render, level, writer)


class _Lines:
    """structlog's target for rendered lines: one method for each level."""

    def __init__(self, writer: LineWriter) -> None:
        self.msg = self.debug = self.info = self.warning = self.error = self.critical = writer.put


def _never_raising(bound_logger: type[Any], writer: LineWriter) -> type[Any]:  # Any: structlog types them so
    """Return a logger whose calls cannot fail: a request must not die of its log line."""

    def proxy(self: Any, /, *arguments: Any, **fields: Any) -> Any:
        try:
            return bound_logger._proxy_to_logger(self, *arguments, **fields)
        except Exception as error:  # any error of a field's code
            writer.put(orjson.dumps({"event": "log_line_failed", "level": "error", "error": type(error).__name__}))

    return type("NeverRaisingLogger", (bound_logger,), {"_proxy_to_logger": proxy})


class _WriterHandler(logging.Handler):
    """Adds the libraries' lines to the log."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; one that cannot be rendered is left out."""
        try:
            self._writer.put(self.format(record).encode("utf-8", "backslashreplace"))
        except Exception:
            self.handleError(record)


def _configure_libraries(shared: list[Processor], render: Callable[..., bytes], level: int, writer: LineWriter) -> None:
    """Write the libraries' lines in the same form, warnings and above."""
    handler = _WriterHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                lambda *arguments: render(*arguments).decode(),
            ],
        )
    )
    logging.raiseExceptions = False  # a record that cannot be rendered must not print a traceback
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.NOTSET)


def _numbered(worker: int) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["worker"] = worker
        return event

    return add


def _cut(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Cut long texts, so that a caller cannot make a line long; of a traceback, keep the end."""
    for name, value in event.items():
        if isinstance(value, str) and len(value) > MAX_VALUE_LENGTH:
            if name != "exception":
                event[name] = value[:MAX_VALUE_LENGTH] + "…"
            elif len(value) > MAX_TRACEBACK_LENGTH:
                event[name] = "…" + value[-MAX_TRACEBACK_LENGTH:]
    return event


def _as_bytes(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    """Return a line in ASCII: some readers of logs take U+2028 for the end of one."""
    try:
        line = orjson.dumps(event, default=repr)
    except TypeError:  # a lone surrogate
        line = b"\xff"
    return line if line.isascii() else json.dumps(event, default=repr).encode()


def _as_text() -> Callable[[WrappedLogger, str, EventDict], bytes]:
    """Return a renderer of lines for people."""
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    return lambda logger, method, event: str(console(logger, method, event)).encode("utf-8", "backslashreplace")


def _notice(shared: list[Processor], render: Callable[..., bytes], count: int) -> bytes:
    event: Any = {"event": "log_lines_dropped", "count": count}  # Any: what a processor takes and returns
    for processor in shared:
        event = processor(None, "warning", event)
    return render(None, "warning", event)
