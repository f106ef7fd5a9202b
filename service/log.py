"""Logging: one JSON object a line on standard output, the libraries' lines included.

Event names are snake_case and never formatted; what varies stands in fields. A value that a caller could choose is cut,
and a line break in it stays inside its JSON string, so that nobody can forge a line. User ids are logged nowhere.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from service.settings import LoggingSettings

MAX_VALUE_LENGTH: Final = 2_000


def configure_logging(settings: LoggingSettings) -> None:
    """Set up structlog and the standard library's logging; called once, by the entry point."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _cut,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.raiseExceptions = False  # a full disk or a closed pipe must not add a traceback a line
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(level, logging.WARNING))


def _cut(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Cut long texts, so that no line grows with what somebody sent."""
    for name, value in event.items():
        if isinstance(value, str) and len(value) > MAX_VALUE_LENGTH and name != "exception":
            event[name] = value[:MAX_VALUE_LENGTH] + "…"
    return event
