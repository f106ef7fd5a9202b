"""Spaces: what may be searched, the usual space, and recipes with other values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.catalog import MODELS
from training.recipe import Recipe, RecipeError, load_recipe, parse_recipe
from training.search.toml import recipe_toml
from training.search.values import own_values, space_of, usual, value_of, with_values
from training.space import Dimension, SearchRecipe


def _recipe(model: str = "sasrec", **more: Any) -> Recipe:
    return parse_recipe({"dataset": "small", "model": model, **more}, "test")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "give choices, or low"),
        ({"low": 1, "high": 1}, "a larger high"),
        ({"low": 1}, "a larger high"),
        ({"low": 0, "high": 1, "log": True}, "begins above 0"),
        ({"low": 0, "high": 1, "choices": [1]}, "or choices"),
        ({"choices": [1], "log": True}, "or choices"),
        ({"lowest": 0}, "lowest"),
    ],
)
def test_a_dimension_is_a_range_or_choices(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Dimension.model_validate(given)


@pytest.mark.parametrize(
    "key", ["split.held", "positive.actions", "learning_rate", "training.", "dataset", "training.X"]
)
def test_what_is_measured_is_not_searched(key: str) -> None:
    with pytest.raises(ValueError, match="keys of training and config"):
        SearchRecipe.model_validate({"space": {key: {"choices": [1, 2]}}})


def test_a_search_section_is_no_part_of_the_recipe() -> None:
    plain = _recipe()
    searched = _recipe(search={"space": {"config.dropout": {"low": 0.0, "high": 0.5}}})
    assert searched.search is not None
    assert searched.digest() == plain.digest()
    assert searched.model_dump_json() == plain.model_dump_json()


def test_an_unknown_key_of_a_search_section_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"search\.spaces: unknown key"):
        _recipe(search={"spaces": {}})


@pytest.mark.parametrize("model", sorted(set(MODELS) - {"popularity"}))
def test_the_usual_space_of_every_model_has_the_recipes_own_values(model: str) -> None:
    recipe = _recipe(model, training={"learning_rate": 0.05, "weight_decay": 3.0})
    space = usual(recipe)
    assert {"training.learning_rate", "training.weight_decay"} <= set(space)
    assert own_values(recipe, space) is not None


def test_the_space_is_that_of_the_file_then_of_the_recipe_then_the_usual_one(tmp_path: Path) -> None:
    recipe = _recipe(search={"space": {"config.blocks": {"low": 1, "high": 3}}})
    (tmp_path / "space.toml").write_text("[space]\n'training.batch' = { choices = [64, 128] }\n")
    assert list(space_of(recipe, tmp_path / "space.toml")) == ["training.batch"]
    assert list(space_of(recipe, None)) == ["config.blocks"]
    assert "config.dropout" in space_of(_recipe(), None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[space]\n'config.depth' = { low = 1, high = 3 }\n", "sasrec has no such key"),
        ("[space]\n'config.dropout' = { low = 1 }\n", "a larger high"),
        ("[spaces]\n", "spaces"),
        ("[space\n", r"space\.toml"),
    ],
)
def test_a_bad_space_is_refused_with_the_key(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "space.toml").write_text(content)
    with pytest.raises(RecipeError, match=words):
        space_of(_recipe(), tmp_path / "space.toml")


def test_own_values_outside_the_space_are_not_tried() -> None:
    recipe = _recipe(config={"dropout": 0.9})
    assert own_values(recipe, {"config.dropout": Dimension(low=0.0, high=0.5)}) is None
    assert own_values(recipe, {"training.balanced": Dimension(choices=(True, 1))}) is None
    assert own_values(recipe, {"training.balanced": Dimension(choices=(False,))}) == {"training.balanced": False}


def test_a_recipe_with_other_values_differs_in_these_only() -> None:
    recipe = _recipe(config={"width": 8, "heads": 1}, positive={"weights": {"like": 2.0}})
    other = with_values(recipe, {"config.dropout": 0.25, "training.batch": 32})
    assert (value_of(other, "config.dropout"), other.training.batch) == (0.25, 32)
    assert with_values(other, {"config.dropout": 0.2, "training.batch": 256}) == recipe.model_copy(
        update={"config": {**recipe.config, "dropout": 0.2}}
    )


def test_values_that_the_model_refuses_are_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match="trial's recipe"):
        with_values(_recipe(), {"config.width": -3})


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"seed": 7, "config": {"side": ["genres", 'ye"ar'], "dropout": 1e-5, "side_start": 0.02}},
        {"split": {"protocol": "time", "valid_hours": 6, "test_hours": 24}, "positive": {"weights": {"like": 2.0}}},
        {"training": {"balanced": True, "tables": "sparse_adam", "seen": "drop"}, "warm": {"epochs": 3}},
    ],
)
def test_a_recipe_as_toml_is_read_as_the_same_recipe(tmp_path: Path, more: dict[str, Any]) -> None:
    recipe = _recipe(**more)
    (tmp_path / "best.toml").write_text(recipe_toml(recipe, "found by\na search"), encoding="utf-8")
    assert load_recipe(tmp_path / "best.toml") == recipe
    assert (tmp_path / "best.toml").read_text().startswith("# found by\n# a search\ndataset = ")


@pytest.mark.parametrize("path", sorted(Path("training/recipes").rglob("*.toml"))[::7], ids=str)
def test_the_projects_recipes_survive_the_way_to_toml_and_back(tmp_path: Path, path: Path) -> None:
    recipe = load_recipe(path)
    (tmp_path / "best.toml").write_text(recipe_toml(recipe, ""), encoding="utf-8")
    assert load_recipe(tmp_path / "best.toml").digest() == recipe.digest()


def test_a_model_outside_the_catalogue_has_a_space_of_its_config() -> None:
    recipe = _recipe("tests.unit.models.faulty_models:Sound", config={"width": 8})
    assert value_of(recipe, "config.width") == 8
    assert "training.learning_rate" in usual(recipe)
