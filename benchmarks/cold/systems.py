"""The trained systems that are compared on new items: one network and one budget, other item features."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console

from models.base import SequentialRecommender
from models.checkpoint import load_checkpoint
from training.recipe import Recipe, parse_recipe
from training.runs import RunDirectory
from training.train import Machine, train

_CONFIG: Final[dict[str, Any]] = {
    "length": 20, "width": 64, "blocks": 1, "inner": 128, "activation": "silu", "dropout": 0.2, "out_side": True,
}  # fmt: skip
_SPLIT: Final[dict[str, Any]] = {"protocol": "time", "valid_queries": 2_000, "ranked_queries": 2_000}
_TRAINING: Final[dict[str, Any]] = {
    "epochs": 4, "batch": 256, "learning_rate": 2e-3, "warm_up": 0.05, "schedule": "linear", "seen": "drop",
}  # fmt: skip

SYSTEMS: Final = (
    "ids and features",
    "features",
    "hashed ids",
    "hashed ids and semantic codes",
    "semantic codes and features",
)
"""The first one has no dropout of ids: its new items have only what their features add to an untrained row."""


class Trained(NamedTuple):
    """A system after training."""

    recipe: Recipe
    model: SequentialRecommender
    quantile: float  # the prior of new items
    cpu_seconds: float


def recipe_of(system: str, dataset: str, features: tuple[str, ...], rows: int, seed: int) -> Recipe:
    """Return the recipe of a system.

    Args:
        system: of SYSTEMS.
        dataset: prepared, with the codes of benchmarks/cold/codes.py.
        features: item features of the data themselves.
        rows: per epoch.
        seed: of all randomness.
    """
    side, share = {
        "ids and features": (features, 0.0),
        "features": (features, 0.2),
        "hashed ids": (("hashed",), 1.0),
        "hashed ids and semantic codes": (("hashed", "semantic"), 1.0),
        "semantic codes and features": (("semantic", *features), 0.2),
    }[system]
    document = {
        "dataset": dataset, "model": "fmlp", "seed": seed, "split": _SPLIT,
        "config": {**_CONFIG, "side": list(side), "id_dropout": share, "popularity_bias": share < 1.0},
        "training": {**_TRAINING, "rows_per_epoch": rows},
    }  # fmt: skip
    return parse_recipe(document, system)


def trained(recipe: Recipe, data: Path, runs: Path) -> Trained:
    """Train a system on one thread."""
    run = RunDirectory.create(runs, recipe)
    train(run, recipe, data, Machine("cpu", 1), Console(quiet=True), parts=("valid",))
    facts = run.facts()
    _, model = load_checkpoint(run.checkpoint)
    return Trained(recipe, model, float(facts["new_item_prior"]["quantile"]), float(facts["cpu_seconds"]))
