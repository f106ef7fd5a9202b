from __future__ import annotations

import pytest

from training.judging.ranking import below, first_metric, first_view, other_view, selecting_metric
from training.recipe import SplitRecipe


def _recipe(**split: object) -> SplitRecipe:
    return SplitRecipe.model_validate(split)


@pytest.mark.parametrize(
    ("protocol", "everything"), [("leave_last_out", ""), ("time", "alive")], ids=["leave-last-out", "time"]
)
def test_the_data_choose_the_ranking_that_comes_first_unless_the_recipe_does(protocol: str, everything: str) -> None:
    assert first_view(_recipe(protocol=protocol), 0.0999) == "unseen"
    assert first_view(_recipe(protocol=protocol), 0.1) == everything
    assert first_view(_recipe(protocol=protocol, ranking="unseen"), 0.9) == "unseen"
    assert first_view(_recipe(protocol=protocol, ranking="all"), 0.0) == everything
    assert other_view(_recipe(protocol=protocol), "unseen") == everything
    assert other_view(_recipe(protocol=protocol), everything) == "unseen"


def test_impressions_have_one_ranking() -> None:
    recipe = _recipe(protocol="impressions")
    assert (first_view(recipe, 0.0), other_view(recipe, ""), first_metric(recipe, "")) == ("", None, "auc")


def test_the_first_metric_selects_the_epoch_unless_the_recipe_gives_a_number_of_negatives() -> None:
    assert selecting_metric(_recipe(protocol="time"), "unseen") == "unseen.ndcg@10"
    assert selecting_metric(_recipe(protocol="time", valid_negatives=200), "unseen") == "ndcg@5"
    assert selecting_metric(_recipe(), "") == "ndcg@10"


def test_popularity_itself_is_below_nothing_also_where_chance_is_better() -> None:
    """In a feed of news what was popular in training is dead in the test."""
    baselines = {"popularity": {"m": 0.0, "other": 0.3}, "chance": {"m": 0.1, "other": 0.1}}
    assert below({"m": 0.0, "other": 0.3}, baselines, "m") == []
    assert below({"m": 0.0, "other": 0.4}, baselines, "m") == ["chance"]


def test_a_model_is_below_what_it_does_not_reach_and_equal_is_not_below() -> None:
    baselines = {"popularity": {"m": 0.2}, "popularity_of_day": {"m": 0.9}, "chance": {"m": 0.1}}
    assert below({"m": 0.2}, baselines, "m") == []
    assert below({"m": 0.15}, baselines, "m") == ["popularity"]
    assert below({"m": 0.05}, baselines, "m") == ["popularity", "chance"]
