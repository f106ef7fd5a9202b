"""Rankings and activity of users with interleaved lists: by hand, and simulated with the real draft."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from contract.experiments.interleaving import Draft, team_draft
from tests.support.event_tables import MINUTE, T0, Row

ARMS = ("control", "treatment")
SHOWN, CANDIDATES = 8, 14

Drafts = Callable[[str, Sequence[str], Sequence[str], int], Draft]


def ranking(unit: str, req: str, teams: Sequence[str | None], ranks: bool = True, **others: object) -> Row:
    """An interleaved ranking in the experiment `e`, with items i1, i2 and so on."""
    items = [
        {"item": f"i{place}", "rank": place, "score": None, "team": team, "ranks": [place, None] if ranks else None}
        for place, team in enumerate(teams, start=1)
    ]
    row: Row = {
        "id": f"k-{unit}-{req}",
        "ts": T0,
        "req": req,
        "unit": unit,
        "arms": [{"layer": "rank", "exp": "e", "arm": "interleaved", "forced": 0}],
        "outcome": "ok",
        "reasons": [],
        "k": len(items),
        "items": items,
    }
    return row | others


def simulated(
    users: int, noise: tuple[float, float], seed: int, draft: Drafts = team_draft
) -> tuple[list[Row], list[Row]]:
    """Return rankings and activity of users, each with one list of two models that rank with some noise.

    A user looks at fewer and fewer items down the list, and plays one with the probability of its relevance.
    """
    draw = np.random.default_rng(seed)
    relevance = draw.beta(1, 2, (users, CANDIDATES))
    orders = [np.argsort(-(relevance + sd * draw.normal(size=relevance.shape)), axis=1) for sd in noise]
    luck = draw.random((users, SHOWN))
    seen = 0.85 ** np.arange(SHOWN)
    rankings: list[Row] = []
    activity: list[Row] = []
    for user in range(users):
        lists = [[f"i{item}" for item in order[user]] for order in orders]
        items, teams = draft(f"req-{seed}-{user}", lists[0], lists[1], SHOWN)
        row = ranking(f"u{user:06d}", f"req-{seed}-{user}", [None if team is None else ARMS[team] for team in teams])
        for entry, item in zip(row["items"], items, strict=True):
            entry["item"] = item
        rankings.append(row)
        for place, item in enumerate(items):
            if luck[user, place] < seen[place]:
                is_liked = luck[user, place] < seen[place] * relevance[user, int(item[1:])]
                activity.append({
                    "id": f"a-{user}-{item}", "ts": T0 + MINUTE, "received": T0 + MINUTE, "clamped": 0,
                    "unit": row["unit"], "type": "play_end", "item": item, "view": f"v-{user}-{item}",
                    "req": row["req"], "play_ms": 9_000 if is_liked else 2_000, "duration_ms": 60_000,
                })  # fmt: skip
    return rankings, activity
