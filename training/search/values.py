"""From a search space to recipes: the usual space of a model, drawn values, and a recipe with them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from contract.command_line import explained
from training.recipe import Recipe, RecipeError, parse_recipe
from training.space import Dimension, SearchRecipe, Space, Value

if TYPE_CHECKING:
    from optuna import Trial

_RATES: Final = (3e-4, 1e-2)
_DECAYS: Final = (0.0, 0.01, 0.05, 0.2)
_DROPOUTS: Final = (0.0, 0.6)
_DIGITS: Final = 4  # of a drawn number: more would only make the recipe hard to read


def space_of(recipe: Recipe, file: Path | None) -> Space:
    """Return the space in a file, else that of the recipe, else the usual one.

    Raises:
        RecipeError: the file is missing or malformed, or a key is not one of the model's config or of training.
    """
    given = None if file is None else _read(file)
    declared = given or recipe.search
    space = declared.space if declared is not None and declared.space else usual(recipe)
    for key in space:
        value_of(recipe, key)
    return space


def _read(file: Path) -> SearchRecipe:
    try:
        return SearchRecipe.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise RecipeError(explained(error)) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ValueError as error:
        raise RecipeError(f"{file}: {error}") from None


def usual(recipe: Recipe) -> Space:
    """Return the space for a recipe that declares none; the recipe's own values are in it.

    Learning rate, weight decay, and where the model has them dropout and width (half, same, double).
    """
    rate, decay = recipe.training.learning_rate, recipe.training.weight_decay
    space = {
        "training.learning_rate": Dimension(low=min(rate, _RATES[0]), high=max(rate, _RATES[1]), log=True),
        "training.weight_decay": Dimension(choices=tuple(sorted({decay, *_DECAYS}))),
    }
    known = {field.name for field in fields(recipe.found().entry.config)}
    if "dropout" in known:
        dropout = float(value_of(recipe, "config.dropout"))
        space["config.dropout"] = Dimension(low=_DROPOUTS[0], high=max(dropout, _DROPOUTS[1]))
    if "width" in known:
        width = int(value_of(recipe, "config.width"))
        space["config.width"] = Dimension(choices=(max(width // 2, 1), width, 2 * width))
    return space


def value_of(recipe: Recipe, key: str) -> Any:  # Any: the value of any key
    """Return the recipe's value of a key; a config's default if the recipe does not set it.

    Raises:
        RecipeError: there is no such key.
    """
    part, *names = key.split(".")
    section = recipe.training if part == "training" else recipe.found().entry.configure(recipe.config)
    try:
        return reduce(lambda found, name: getattr(found, name), names, section)
    except AttributeError:
        raise RecipeError(f"search.space: {key}: {recipe.model} has no such key") from None


def own_values(recipe: Recipe, space: Mapping[str, Dimension]) -> dict[str, Value] | None:
    """Return the recipe's own values, if all of them are in the space."""
    values = {key: value_of(recipe, key) for key in space}
    return values if all(dimension.has(values[key]) for key, dimension in space.items()) else None


def drawn(trial: Trial, space: Mapping[str, Dimension]) -> dict[str, Value]:
    """Return the values of a trial."""
    return {key: _one(trial, key, dimension) for key, dimension in space.items()}


def _one(trial: Trial, key: str, dimension: Dimension) -> Value:
    if dimension.choices:
        chosen = trial.suggest_categorical(key, dimension.choices)
        assert chosen is not None  # TOML has no null
        return chosen
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.whole:
        return trial.suggest_int(key, int(dimension.low), int(dimension.high), log=dimension.log)
    return float(f"{trial.suggest_float(key, dimension.low, dimension.high, log=dimension.log):.{_DIGITS}g}")


def with_values(recipe: Recipe, values: Mapping[str, Value]) -> Recipe:
    """Return the recipe with other values.

    Raises:
        RecipeError: the model refuses them together.
    """
    document = json.loads(recipe.model_dump_json())
    for key, value in values.items():
        *path, name = key.split(".")
        section = document
        for part in path:
            section = section.setdefault(part, {})
        section[name] = value
    return parse_recipe(document, "the trial's recipe")
