"""The models of the replay, and the ways to train them every day."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from benchmarks.daily.days import NAME
from training.recipe import Recipe, parse_recipe

MODELS: Final[dict[str, dict[str, Any]]] = {
    "sasrec": {"length": 16, "width": 32, "blocks": 1, "heads": 2, "inner": 64, "dropout": 0.2},
    "pyramid_mixer": {
        "length": 16, "width": 32, "scales": 2, "layers": 1, "rank_feature": 32, "activation": "silu", "dropout": 0.2,
    },
}  # fmt: skip
"""Small: a replay trains each of them dozens of times."""

_TRAINING: Final = {"epochs": 8, "batch": 256, "learning_rate": 0.002, "patience": 2, "seen": "drop"}
_SPLIT: Final = {"protocol": "time", "valid_hours": 24, "test_hours": 24, "ranked_queries": 4_000}


class Variant(NamedTuple):
    """A way to train every day.

    Attributes:
        warm: the recipe's section; None trains from scratch.
        carried: whether the state of Adam goes on too.
    """

    warm: dict[str, Any] | None
    carried: bool = False


VARIANTS: Final[dict[str, Variant | None]] = {
    "frozen": None,
    "scratch": Variant(None),
    "warm": Variant({"epochs": 2, "replay": 1.0}),
    "warm, carried": Variant({"epochs": 2, "replay": 1.0}, carried=True),
    "warm, no replay": Variant({"epochs": 2, "replay": 0.0}),
    "warm, 4 old": Variant({"epochs": 2, "replay": 4.0}),
    "warm, 1 epoch": Variant({"epochs": 1, "replay": 1.0}),
    "warm, half rate": Variant({"epochs": 2, "replay": 1.0, "learning_rate": 0.001}),
}
"""`frozen` is never trained after the base."""

LABELS: Final = {
    "frozen": "nothing: the base serves",
    "scratch": "from scratch, all rows, the epochs that validation chose",
    "warm": "warm, new rows and as many old ones, 2 epochs",
    "warm, carried": "the same, and the state of Adam goes on",
    "warm, no replay": "warm, new rows, 2 epochs",
    "warm, 4 old": "warm, new rows and 4 old ones for each, 2 epochs",
    "warm, 1 epoch": "warm, new rows and as many old ones, 1 epoch",
    "warm, half rate": "warm, new rows and as many old ones, 2 epochs, half the learning rate",
}
CHAINS: Final = {"sasrec": tuple(LABELS), "pyramid_mixer": tuple(LABELS)[:5]}
"""The ways to train each model: the larger one gets those that decide."""


def recipe_of(model: str, warm: dict[str, Any] | None = None, seed: int = 0) -> Recipe:
    """Return the recipe of a model."""
    config = {**MODELS[model], "popularity_bias": True}
    document = {"dataset": NAME, "model": model, "seed": seed, "config": config, "split": _SPLIT, "training": _TRAINING}
    return parse_recipe(document | ({"warm": warm} if warm else {}), f"benchmarks/daily: {model}")
