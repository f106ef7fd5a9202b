"""The section `logging`: logs on standard output."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.settings.group import Group


class LoggingSettings(Group):
    """Logs on standard output."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level to log."""
    format: Literal["json", "console"] = "json"
    """`json` writes one object per line; `console` writes lines for people."""
    access: bool = True
    """Log one line per request, except successful health checks, metric scrapes and rankings refused with 429."""
    buffer_bytes: int = Field(8 * 1024 * 1024, ge=16_384)
    """Maximum bytes of log lines that wait for a slow reader; above it new lines are dropped and counted."""
