"""The ranking log: the list that a sampled unit got at each ranking, with its arms and the outcome.

The names follow OpenSearch's User Behavior Insights where they can (docs/contract.md has the fields and the mapping).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, Literal

RANKING_SCHEMA: Final = 1
RankingOutcome = Literal["ok", "degraded", "refused", "error", "gone"]
"""`refused`: too busy, too late or not ready. `error`: the ranking failed. `gone`: the caller hung up first."""

_STEPS: Final = 10_000
_SALT: Final = b"ranking-log.sample."


def is_sampled(unit: str, share: float) -> bool:
    """Return whether a unit is in the sample: always or never, independently of every arm, and of any larger share."""
    return int.from_bytes(sha256(_SALT + unit.encode()).digest()[:8], "big") % _STEPS < share * _STEPS


def ranking_row(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of `analysis.tables.schemas.RANKINGS` for an event; Any: JSON.

    Raises:
        ValueError: a version that this reader does not know, or lists of unequal lengths.
        KeyError: a field is missing.
    """
    if event["v"] != RANKING_SCHEMA:
        raise ValueError(f"a ranking of version {event['v']!r} is newer than this reader")
    attributes = event.get("attributes")
    names = ("id", "ts", "req", "unit", "arms", "model", "ver", "outcome", "reasons", "latency_us", "n_cand", "k")
    row = {name: event[name] for name in names}
    row["items"] = _items(event)
    row["attributes"] = None if attributes is None else json.dumps(attributes, sort_keys=True, ensure_ascii=False)
    row["rules"], row["moved"] = event.get("rules"), _moved(event.get("moved"))
    return row


def _moved(counts: object) -> list[dict[str, Any]] | None:
    if counts is None:
        return None
    if not isinstance(counts, dict):
        raise ValueError("moved: not an object")
    return [{"rule": rule, "items": count} for rule, count in counts.items()]


def _items(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    items = event["items"]
    nothing = [None] * len(items)
    teams, ranks = event.get("teams") or nothing, event.get("ranks") or nothing
    columns = zip(items, event["scores"], teams, ranks, strict=True)
    return [
        {"item": item, "rank": place, "score": score, "team": team, "ranks": own}
        for place, (item, score, team, own) in enumerate(columns, start=1)
    ]
