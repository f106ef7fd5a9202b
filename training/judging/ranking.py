"""Which ranking comes first, which metric selects the epoch, and which models are below a baseline.

A feed shows items that the user has not seen, so the ranking without seen items comes first, unless the data repeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from training.recipe import Protocol, SplitRecipe

NATURAL_REPEATS: Final = 0.1
"""From this share of repeated targets on, seen items stay candidates in the first ranking."""
REFUSED_BELOW: Final = ("popularity", "chance")
"""The baselines that a model must reach."""

_ALL: Final[dict[Protocol, str]] = {"leave_last_out": "", "time": "alive", "impressions": ""}
_FIRST_METRIC: Final[dict[Protocol, str]] = {"leave_last_out": "ndcg@10", "time": "ndcg@10", "impressions": "auc"}
_ROUNDING: Final = 1e-6


def first_view(recipe: SplitRecipe, repeat_share: float) -> str:
    """Return the view that comes first, by the recipe or else by the data."""
    keeps = recipe.ranking == "all" or (recipe.ranking == "auto" and repeat_share >= NATURAL_REPEATS)
    return _ALL[recipe.protocol] if keeps or recipe.protocol == "impressions" else "unseen"


def other_view(recipe: SplitRecipe, first: str) -> str | None:
    """Return the view of the same queries with the other choice of seen items, if the protocol has one."""
    if recipe.protocol == "impressions":
        return None
    return _ALL[recipe.protocol] if first == "unseen" else "unseen"


def first_metric(recipe: SplitRecipe, first: str) -> str:
    """Return the metric that comes first, which decides whether a model is below a baseline."""
    return in_view(first, _FIRST_METRIC[recipe.protocol])


def selects_by_list(recipe: SplitRecipe) -> bool:
    """Whether the epoch is selected on stored negatives, because the recipe gives their number."""
    return recipe.protocol == "time" and recipe.valid_negatives > 0


def selecting_metric(recipe: SplitRecipe, first: str) -> str:
    """Return the metric that selects the epoch."""
    return "ndcg@5" if selects_by_list(recipe) else first_metric(recipe, first)


def in_view(view: str, metric: str) -> str:
    """Return the name of a view's metric."""
    return f"{view}.{metric}" if view else metric


def below(metrics: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]], metric: str) -> list[str]:
    """Return the baselines that a model must reach and does not, by one metric; popularity itself is below none."""
    popularity = baselines["popularity"]
    if all(abs(metrics[name] - popularity[name]) <= _ROUNDING for name in popularity):
        return []
    return [name for name in REFUSED_BELOW if metrics[metric] < baselines[name][metric] - _ROUNDING]
