"""Outcomes of the impressions of own files: the actions of the same user on the same item within the window.

A source that has outcomes of its own (KuaiRand) keeps them. Symbols: N impressions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from contract.behaviours.actions import ACTIONS
from training.data.answers import answered
from training.data.kept import OUTCOME, Column
from training.data.prepare import Prepared
from training.recipe import Recipe


def with_outcomes(prepared: Prepared, recipe: Recipe) -> Prepared:
    """Return the data with an outcome of impressions for every action in them, if the recipe's model has targets."""
    window_ms = prepared.provenance["parameters"].get("window_ms")
    if not recipe.config.get("targets") or prepared.impressions is None or prepared.outcomes or window_ms is None:
        return prepared
    names = [ACTIONS[code - 1] for code in np.unique(prepared.columns["actions"]).tolist()]
    found = {f"{OUTCOME}{name}": 1000 * _led_to(prepared, name, window_ms) for name in names}
    return replace(prepared, impressions=prepared.impressions | found)


def _led_to(prepared: Prepared, action: str, window_ms: int) -> Column:
    """Return 1 for each impression (N,) that the action answers, else 0."""
    assert prepared.impressions is not None
    shown, columns, count = prepared.impressions, prepared.columns, len(prepared.items) + 1
    users = np.repeat(np.arange(len(prepared.users)), np.diff(prepared.user_starts))
    rows = columns["actions"] == ACTIONS.index(action) + 1
    acted = users[rows] * count + columns["items"][rows]
    pairs = shown["users"] * count + shown["items"]
    return answered(pairs, shown["times_ms"], acted, columns["times_ms"][rows], window_ms)
