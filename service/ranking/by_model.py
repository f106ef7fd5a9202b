"""Calls that are ready for the engine, in one piece for each bundle."""

from __future__ import annotations

from collections.abc import Sequence

from service.errors import NotReady
from service.ranking.call import Half, RankCall


def score(calls: Sequence[RankCall]) -> None:
    """Hand every bundle its calls, and both bundles of an interleaved call its halves."""
    by_serving: dict[int, list[RankCall | Half]] = {}
    for call in calls:
        if call.halves:
            for half in call.halves:
                by_serving.setdefault(id(half.serving), []).append(half)
        else:
            by_serving.setdefault(id(call.serving), []).append(call)
    for group in by_serving.values():
        serving = group[0].serving
        if serving.is_healthy:
            serving.submit(group)
        else:
            for entry in group:
                entry.scored(NotReady("The model is not being served."))
