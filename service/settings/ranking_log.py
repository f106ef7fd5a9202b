"""The section `ranking_log`: the list that each ranking answered, written to a Redis stream for the analysis."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from service.settings.group import Group


class RankingLogSettings(Group):
    """The ranking log: the list that each ranking answered, written to a Redis stream for the analysis."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the users whose rankings are logged, chosen by a hash; 0 is off. Needs `~rank:log:*` in the ACL."""
    top: Annotated[int, Field(ge=1, le=1_000)] = 20
    """Maximum number of items of one ranking to log, from the best on."""
    attributes: tuple[str, ...] = ()
    """Names of the request's attributes to log, as a JSON array; all others are left out."""
    max_length: Annotated[int, Field(ge=1, le=10**12)] = 100_000
    """Approximate number of rankings that the stream keeps."""
