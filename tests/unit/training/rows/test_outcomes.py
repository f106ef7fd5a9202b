"""Outcomes of the impressions of own files, for models with several targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contract.behaviours.actions import ACTION_CODES
from tests.support.own_files import write_news
from training.data.prepare import Prepared, load_prepared, prepare
from training.data.sources import read_source
from training.recipe import Recipe, parse_recipe
from training.rows.outcomes import with_outcomes


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("news")
    source = read_source(str(write_news(folder)), None, folder)
    prepare(source.interactions, folder / "data" / source.name, core=1)
    return load_prepared(folder / "data" / source.name)


def _recipe(targets: dict[str, Any]) -> Recipe:
    config = {"head": "ranking", "targets": targets}
    return parse_recipe({"dataset": "news", "model": "pyramid_mixer", "config": config}, "test")


def test_an_impression_leads_to_each_action_that_answers_it_within_the_window(news: Prepared) -> None:
    found = with_outcomes(news, _recipe({"click": {}, "like": {}}))
    assert found.outcomes == ("click", "like", "share")
    assert found.impressions is not None
    shown, columns, window_ms = found.impressions, found.columns, found.provenance["parameters"]["window_ms"]
    for name in found.outcomes:
        expected = []
        for user, item, at in zip(shown["users"], shown["items"], shown["times_ms"], strict=True):
            own = slice(found.user_starts[user], found.user_starts[user + 1])
            same = (columns["items"][own] == item) & (columns["actions"][own] == ACTION_CODES[name])
            after = columns["times_ms"][own] - at
            expected.append(1000 * int((same & (after >= 0) & (after <= window_ms)).any()))
        assert shown[f"outcome.{name}"].tolist() == expected
        assert 0 < np.count_nonzero(expected) < len(expected)


def test_without_targets_the_data_stay_as_they_are(news: Prepared) -> None:
    assert with_outcomes(news, _recipe({})) is news
