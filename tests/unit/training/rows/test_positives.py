"""A recipe tells which interactions are targets, what they weigh, and which impressions are positive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.behaviours.actions import ACTION_CODES, ACTIONS
from contract.bundle.tensors import SequenceSpec
from tests.support.own_files import write_news, write_rows
from training.data.prepare import Prepared, load_prepared, prepare
from training.data.sources import read_source
from training.recipe import PositiveRecipe, RecipeError, TrainingRecipe, parse_recipe
from training.rows.loader import Loader
from training.rows.positives import aimed
from training.rows.split import Rows, SplitError, every_row, impressions, instances, split, training_log, training_mask

TS = 1_700_000_000_000


def _prepared(folder: Path, path: Path) -> Prepared:
    source = read_source(str(path), None, folder)
    prepare(source.interactions, folder / "data" / source.name, core=1)
    return load_prepared(folder / "data" / source.name)


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("news")
    path = write_news(folder)
    mapping = folder / "news.toml"
    mapping.write_text(mapping.read_text().replace("[features]", '[features]\nreading_s = {kind = "number"}'))
    return _prepared(folder, path)


def _actions(prepared: Prepared, rows: Rows) -> set[str]:
    return {ACTIONS[code - 1] for code in prepared.columns["actions"][rows.stops].tolist()}


def test_the_default_counts_every_behaviour(news: Prepared) -> None:
    assert aimed(news, PositiveRecipe()) is news
    assert _actions(news, instances(news)) == {"click", "like", "share"}


def test_only_named_actions_are_targets_and_all_stay_in_the_history(news: Prepared) -> None:
    found = aimed(news, PositiveRecipe(actions=("like",)))
    for rows in (instances(found), *split(found, "leave_last_out"), *split(found, "time"), every_row(found, "time")):
        assert _actions(found, rows) == {"like"}
    assert found.columns is news.columns


def test_a_click_counts_from_its_least_play_time_and_a_like_always(news: Prepared) -> None:
    found = aimed(news, PositiveRecipe(least_play_s=60))
    places = instances(found).stops
    actions, plays = found.columns["actions"][places], found.columns["plays"][places]
    clicks = actions == ACTION_CODES["click"]
    assert plays[clicks].min() >= 60_000
    assert (~clicks).sum() == (found.columns["actions"][instances(news).stops] != ACTION_CODES["click"]).sum()


def test_a_click_counts_from_its_least_share_of_the_duration(news: Prepared) -> None:
    found = aimed(news, PositiveRecipe(least_share=0.5, duration="reading_s", actions=("click",)))
    rows = instances(found)
    share = found.columns["plays"][rows.stops] / 1000 / found.numbers["reading_s"][rows.items]
    assert share.min() >= 0.5
    assert len(rows.items) < len(instances(news).items)


def test_the_last_targets_of_a_user_are_held_out_not_the_last_rows(news: Prepared) -> None:
    found = aimed(news, PositiveRecipe(actions=("like",)))
    parts = split(found, "leave_last_out")
    mask = training_mask(found, "leave_last_out")
    for user in np.unique(parts.test.users)[:50].tolist():
        places = np.arange(found.user_starts[user] + 1, found.user_starts[user + 1])
        likes = places[found.columns["actions"][places] == ACTION_CODES["like"]]
        assert parts.test.stops[parts.test.users == user].tolist() == likes[-1:].tolist()
        assert parts.valid.stops[parts.valid.users == user].tolist() == likes[-2:-1].tolist()
        held = likes[-2:][0]
        own = mask[found.user_starts[user] : found.user_starts[user + 1]]
        assert own.tolist() == (np.arange(len(own)) + found.user_starts[user] < held).tolist()


def test_popularity_counts_targets_only(news: Prepared) -> None:
    found = aimed(news, PositiveRecipe(actions=("share",)))
    everything = np.ones(len(found.columns["items"]), dtype=np.bool_)
    assert len(training_log(found, everything, context=False).items) == (
        (found.columns["actions"] == ACTION_CODES["share"]).sum()
    )
    assert len(training_log(found, everything).items) == len(everything)


def test_rows_weigh_as_their_actions_in_every_batch(news: Prepared) -> None:
    found = aimed(news, PositiveRecipe(weights={"like": 5.0, "share": 2.5}))
    rows = instances(found)
    loader = Loader(found, SequenceSpec(length=5), rows)
    order = np.arange(len(loader))
    batches = loader.training_batches(np.random.default_rng(0), order, TrainingRecipe(batch=512))
    weights = np.concatenate([batch.weights.numpy() for batch in batches if batch.weights is not None])
    expected = {"click": 1.0, "like": 5.0, "share": 2.5}
    actions = found.columns["actions"][rows.stops].tolist()
    assert weights.tolist() == [expected[ACTIONS[code - 1]] for code in actions]


def _shown(tmp_path: Path, *rows: tuple[str, int, str, int]) -> Prepared:
    cells: list[dict[str, Any]] = [
        {"user": "u", "item": item, "ts": TS + 1000 * second, "action": action, "play_ms": play}
        for item, second, action, play in rows
    ]
    return _prepared(tmp_path, write_rows(tmp_path / "log.csv", cells))


def test_impressions_are_labelled_and_weighted_by_what_counts(tmp_path: Path) -> None:
    prepared = _shown(
        tmp_path,
        ("short", 0, "impression", 0), ("short", 1, "click", 500),
        ("long", 10, "impression", 0), ("long", 11, "click", 9_000), ("long", 12, "like", 0),
        ("none", 20, "impression", 0), ("again", 30, "click", 9_000),
    )  # fmt: skip
    rows = impressions(prepared)
    assert rows.labels is not None
    assert (rows.labels.tolist(), rows.weights) == ([1, 1, 0], None)
    rows = impressions(aimed(prepared, PositiveRecipe(least_play_s=2, weights={"click": 2.0, "like": 4.0})))
    assert rows.labels is not None
    assert rows.weights is not None
    assert (rows.labels.tolist(), rows.weights.tolist()) == ([0, 1, 0], [1, 4, 1])
    assert every_row(aimed(prepared, PositiveRecipe(weights={"like": 4.0})), "impressions").weights is not None


def test_labels_of_the_source_are_not_changed(tmp_path: Path) -> None:
    prepared = _shown(tmp_path, ("a", 0, "impression", 0), ("a", 1, "click", 5))
    del prepared.provenance["parameters"]["window_ms"]
    with pytest.raises(SplitError, match="labels of its impressions are the source's own"):
        aimed(prepared, PositiveRecipe(actions=("click",)))


def test_an_unknown_duration_is_an_error(news: Prepared) -> None:
    with pytest.raises(
        SplitError, match=r"no number feature named 'length'; there are words, reading_s|reading_s, wor"
    ):
        aimed(news, PositiveRecipe(least_share=0.5, duration="length"))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"actions": ["impression"]}, "impression is not a behaviour"),
        ({"actions": ["click"], "weights": {"like": 2}}, "weights.like: the action is not one of"),
        ({"least_share": 0.5}, "least_share and duration: set both or none"),
        ({"weights": {"click": 0}}, "positive.weights.click"),
        ({"least_plays": 3}, "unknown key"),
    ],
)
def test_a_wrong_section_is_an_error_of_the_recipe(section: dict[str, Any], message: str) -> None:
    document = {"dataset": "news", "model": "fmlp", "positive": section}
    with pytest.raises(RecipeError, match=message):
        parse_recipe(document, "recipe.toml")
