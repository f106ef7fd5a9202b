"""The section `shadow`: bundles that score a sample of the rankings after they were answered."""

from __future__ import annotations

from service.settings.group import Count, Group, Milliseconds


class ShadowSettings(Group):
    """Bundles that score a sample of the rankings after they were answered; the experiment file names them."""

    queue: Count = 64
    """Maximum number of answered rankings that wait for one shadow; further ones are dropped and counted."""
    deadline_ms: Milliseconds = 2_000
    """How long (ms) a ranking may wait for a shadow, and a shadow may take for a batch before its process is ended."""
