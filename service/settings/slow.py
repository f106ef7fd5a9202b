"""The section `slow`: the slowest rankings, for operators."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from service.settings.group import Bytes, Group


class SlowSettings(Group):
    """The slowest rankings of the last hour, for operators (docs/slow-rankings.md)."""

    keep: Annotated[int, Field(ge=0, le=100)] = 10
    """Slowest rankings of every five minutes to keep; 0 keeps none. Needs a port for operators, or API keys."""
    max_bytes: Bytes = 4_194_304
    """Maximum bytes of the inputs that are kept with them; above it the fastest ones are dropped."""
