"""The section `access`: who may call."""

from __future__ import annotations

from pathlib import Path

from service.settings.group import Group, Milliseconds


class AccessSettings(Group):
    """Who may call."""

    file: Path | None = None
    """The access file, YAML or JSON: callers, hashes of their API keys, scopes, quotas. Without it no key is needed."""
    on_admin_port: bool = True
    """Ask for a key on the port of operators too (docs/access.md); off, the network must protect that port."""
    reload_ms: Milliseconds = 5_000
    """How often (ms) to check the access file for changes."""
