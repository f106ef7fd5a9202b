"""Unit tables as `analysis.units.table` makes them, of users who are drawn and not measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from analysis.metrics import MEANS

RATES = {
    "active_days": 5.0, "active_hours": 14.0, "stay_duration": 9_000.0, "playtime": 7_000.0, "publish": 0.05,
    "play": 220.0, "valid_play": 120.0, "finish": 70.0, "like": 4.0, "dislike": 0.2, "comment": 0.6, "share": 0.3,
    "follow": 0.4,
}  # fmt: skip


def unit_table(
    n: int,
    lifts: Mapping[str, float] | None = None,
    *,
    arms: tuple[str, ...] = ("control", "treatment"),
    history: float = 1.0,
    seed: int = 1,
) -> pa.Table:
    """`n` units over the arms; every arm but the first has the lifts. Some have no time before their exposure."""
    rng = np.random.default_rng(seed)
    taste = rng.gamma(4.0, 0.25, n)  # what a unit does before and after
    places = rng.integers(len(arms), size=n)
    known = rng.random(n) < history
    columns: dict[str, object] = {
        "unit": [f"u{place:07d}" for place in range(n)],
        "arm": [arms[place] for place in places],
        "exposed_ts": 1_770_000_000_000 + rng.integers(86_400_000, size=n),
        "complete": np.ones(n, bool),
        "history": known,
    }
    for name in MEANS:
        rate = RATES[name] * taste
        lift = np.where(places > 0, 1 + (lifts or {}).get(name, 0.0), 1.0)
        columns[name] = rng.poisson(rate * lift).astype(float)
        columns[f"{name}_pre"] = rng.poisson(rate).astype(float) * known
    return pa.table(columns)
