from __future__ import annotations

from pathlib import Path

import pytest

from models.catalog import MODELS
from training.recipe import RecipeError, load_recipe, parse_recipe

RECIPES = Path(__file__).parents[3] / "training" / "recipes"
GOOD = 'dataset = "ml-100k"\nmodel = "sasrec"\n[config]\nwidth = 16\n[training]\nepochs = 2\n'


def _recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.toml")), ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_recipe_of_ours_loads_and_stands_under_its_own_name(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.model == path.stem
    assert recipe.dataset == path.relative_to(RECIPES).parts[0]


def test_every_model_has_a_recipe_for_the_demo_and_for_the_data_of_its_papers_table() -> None:
    ours = {path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.toml")}
    learning = set(MODELS) - {"popularity"}
    assert {f"ml-100k/{model}" for model in MODELS} | {f"ml-100k/demo/{model}" for model in learning} <= ours
    of_mgnm = {one.removeprefix("kuairand-pure/") for one in ours if one.startswith("kuairand-pure/")}
    of_mgnm -= {"targets/pyramid_mixer"}
    of_mixer = {one.removeprefix("ml-1m/") for one in ours if one.startswith("ml-1m/")}
    assert of_mgnm | of_mixer == set(MODELS)


def test_every_default_is_written_out(tmp_path: Path) -> None:
    recipe = load_recipe(_recipe(tmp_path, GOOD))
    assert parse_recipe(recipe.model_dump(mode="json"), "again") == recipe
    assert recipe.model_dump()["training"]["batch"] == 256


def test_a_seed_given_replaces_the_recipes_own(tmp_path: Path) -> None:
    recipe = load_recipe(_recipe(tmp_path, "seed = 3\n" + GOOD), seed=7)
    assert recipe.seed == 7


def test_runs_that_differ_by_seed_share_a_digest(tmp_path: Path) -> None:
    path = _recipe(tmp_path, GOOD)
    digest = load_recipe(path, 1).digest()
    assert load_recipe(path, 2).digest() == digest
    assert load_recipe(_recipe(tmp_path, GOOD + "batch = 64\n"), 1).digest() != digest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "learning_rte = 0.1\n", r"r\.toml: training\.learning_rte: unknown key"),
        ("optimizer = 1\n" + GOOD, "optimizer: unknown key"),
        (GOOD + "[split]\nkind = 1\n", r"split\.kind: unknown key"),
        (GOOD + "[split]\nprotocol = 'time'\ntest_hours = 6\n", "split: .*set both or none"),
        (GOOD + "[split]\nvalid_hours = 6\ntest_hours = 6\n", "split: .*of the protocols time and impressions"),
        (GOOD.replace("width", "widht"), "config: .*unknown key 'widht'; there are .*width"),
        (GOOD.replace("sasrec", "bert5rec"), "no model 'bert5rec'; there are .*sasrec"),
        (GOOD.replace("epochs = 2", "epochs = -2"), r"training\.epochs: .*greater than or equal to 0"),
        (GOOD.replace("epochs = 2", "epochs = '2'"), r"training\.epochs: .*valid integer"),
        (GOOD.replace('"ml-100k"', '"../../etc"'), "dataset: .*pattern"),
        ("model = 'sasrec'\n", "dataset: Field required"),
        (GOOD + "negatives_from = 'shared'\n", 'training: .*"shared" needs negatives'),
        (GOOD + "negatives_from = 'batch'\nnegatives = 5\n", "training: .*draws none"),
        (
            GOOD.replace("width = 16", "objective = 'gbce'") + "negatives_from = 'batch'\n",
            "config: .*needs uniform negatives",
        ),
        ("model = \n", r"r\.toml: Invalid value"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        load_recipe(_recipe(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.toml: no such recipe"):
        load_recipe(tmp_path / "none.toml")
