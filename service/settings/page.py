"""The section `page`: the page for people."""

from __future__ import annotations

from pathlib import Path

from service.settings.group import Group


class PageSettings(Group):
    """The page for people."""

    enabled: bool = False
    """Serve the page at GET /. It shows what users did, and its clicks are stored, so use it only in staging."""
    report: Path | None = None
    """HTML report of an experiment that the page links to and shows without scripts; empty shows no link."""
