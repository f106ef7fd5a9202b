"""The section `admin`: a second port, for operators."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from service.settings.group import Group


class AdminSettings(Group):
    """A second port, for operators: metrics, information, documents, the page, and health checks."""

    host: str = "127.0.0.1"
    """Address of the second port."""
    port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """TCP port for operators; the port of callers then answers nothing else. 0 takes a free one; empty: one port."""
