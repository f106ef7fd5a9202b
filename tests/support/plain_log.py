"""The log of tests that have not set one up: structlog's own, with plain tracebacks."""

from __future__ import annotations

import structlog


def use_plain_log() -> None:
    """Reset structlog. Its default draws every traceback with rich, which takes a second or more."""
    structlog.reset_defaults()
    *others, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*others, plain])
