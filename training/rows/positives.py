"""The interactions that a recipe counts as positive, and their weights.

Symbols: R interactions, N impressions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.actions import ACTION_CODES
from training.data.answers import answered
from training.data.prepare import Prepared
from training.recipe import PositiveRecipe
from training.rows.split import SplitError

_PLAYED = ("click", "play", "finish")  # the other actions have no play time
_EVERYTHING = PositiveRecipe()


def aimed(prepared: Prepared, recipe: PositiveRecipe) -> Prepared:
    """Return the data with the targets, labels and weights of a recipe; the default recipe changes nothing.

    Raises:
        SplitError: the data lack the duration, or the labels of the impressions are the source's own.
    """
    if recipe == _EVERYTHING:
        return prepared
    targets = _targets(prepared, recipe)
    weights = _weights(prepared, recipe) if recipe.weights else None
    found = replace(prepared, targets=targets, weights=weights)
    return found if prepared.impressions is None else _relabelled(found, targets, weights)


def _targets(prepared: Prepared, recipe: PositiveRecipe) -> NDArray[np.bool_]:
    """Return which interactions count, (R,)."""
    columns = prepared.columns
    counts = np.isin(columns["actions"], [ACTION_CODES[action] for action in recipe.actions])
    enough = columns["plays"] >= recipe.least_play_s * 1000
    if recipe.duration is not None:
        duration_ms = _duration_s(prepared, recipe.duration)[columns["items"]] * 1000
        enough &= columns["plays"] >= recipe.least_share * duration_ms  # NaN: an unknown duration is not enough
    played = np.isin(columns["actions"], [ACTION_CODES[action] for action in _PLAYED])
    return np.asarray(counts & (enough | ~played), dtype=np.bool_)


def _duration_s(prepared: Prepared, name: str) -> NDArray[np.float32]:
    numbers = {name: one for name, one in prepared.numbers.items() if one.ndim == 1}
    if name not in numbers:
        raise SplitError(
            f"{prepared.directory.name}: positive.duration: no number feature named {name!r}; there are "
            f"{', '.join(numbers) or 'none'}"
        )
    return numbers[name]


def _weights(prepared: Prepared, recipe: PositiveRecipe) -> NDArray[np.float32]:
    """Return the weight of every interaction, (R,)."""
    by_action = np.ones(len(ACTION_CODES) + 1, dtype=np.float32)
    for action, weight in recipe.weights.items():
        by_action[ACTION_CODES[action]] = weight
    return np.asarray(by_action[prepared.columns["actions"]], dtype=np.float32)


def _relabelled(prepared: Prepared, targets: NDArray[np.bool_], weights: NDArray[np.float32] | None) -> Prepared:
    """Return the data with impressions that are positive if a target answers them; the heaviest one counts."""
    shown, window_ms = prepared.impressions, prepared.provenance["parameters"].get("window_ms")
    assert shown is not None
    if window_ms is None:
        raise SplitError(
            f"{prepared.directory.name}: the labels of its impressions are the source's own: the recipe's section "
            f"[positive] cannot change them"
        )
    columns, count = prepared.columns, len(prepared.items) + 1
    users = np.repeat(np.arange(len(prepared.users)), np.diff(prepared.user_starts))
    pairs, pairs_shown = users * count + columns["items"], shown["users"] * count + shown["items"]
    labels = np.zeros(len(pairs_shown), dtype=np.int64)
    heaviest = np.ones(len(labels), dtype=np.float32)
    of = np.ones(len(pairs), dtype=np.float32) if weights is None else weights
    for weight in np.unique(of[targets]).tolist():  # rising, so that the heaviest one remains
        rows = targets & (of == weight)
        led = answered(pairs_shown, shown["times_ms"], pairs[rows], columns["times_ms"][rows], window_ms) > 0
        labels[led], heaviest[led] = 1, weight
    return replace(
        prepared, impressions={**shown, "labels": labels}, shown_weights=None if weights is None else heaviest
    )
