"""Each rule, and several together, on made-up candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from service.bundles.bundle import Bundle
from service.ranking.rules.kinds import repeats_of
from tests.support.rules import NOW_MS, applied, moved, order_of, with_items

pytestmark = pytest.mark.onnx

HOUR_MS = 3_600_000
FACTS: dict[str, dict[str, Any]] = {
    "a1": {"author": "ann", "tags": ["sport", "cup"], "first_seen": NOW_MS - HOUR_MS, "words": 200, "born_s": 1},
    "a2": {"author": "ann", "tags": ["cup"], "first_seen": NOW_MS - 30 * HOUR_MS, "words": 12.5},
    "a3": {"author": "ann", "tags": [], "first_seen": None},
    "b1": {"author": "ben", "tags": ["sport"], "words": 200.0},
    "c1": {"first_seen": NOW_MS + HOUR_MS},
}
BY_AUTHOR = {"diversity": {"by": "author", "decay": 0.5}}


@pytest.fixture
def bundle(bundles: Mapping[str, Bundle]) -> Bundle:
    return with_items(bundles["control"], FACTS)


def after(bundle: Bundle, rule: Mapping[str, Any], scores: dict[str, float], **how: Any) -> dict[str, float]:
    result = applied(bundle, [rule], list(scores), list(scores.values()), **how)
    ids = [result.candidates.item_ids[place] for place in result.candidates.known]
    return dict(zip(ids, np.round(result.after, 4).tolist(), strict=True))


def test_repeated_values_lower_the_weight_step_by_step(bundle: Bundle) -> None:
    found = after(bundle, BY_AUTHOR, {"a1": 1, "a2": 3, "a3": 2, "b1": -1, "c1": -2})
    half = float(np.log(0.5))
    assert found == pytest.approx({"a2": 3, "a3": 2 + half, "a1": 1 + 2 * half, "b1": -1, "c1": -2}, abs=1e-3)


def test_a_floor_is_left(bundle: Bundle) -> None:
    found = after(bundle, {"diversity": {"by": "author", "decay": 0.5, "floor": 0.2}}, {"a1": 1, "a2": 1, "a3": 1})
    assert found == pytest.approx({"a1": 1, "a2": 1 + np.log(0.6), "a3": 1 + np.log(0.4)}, abs=1e-3)
    flat = after(bundle, {"diversity": {"by": "author", "decay": 0, "floor": 0.2}}, {"a1": 1, "a2": 1, "a3": 1})
    assert flat == pytest.approx({"a1": 1, "a2": 1 + np.log(0.2), "a3": 1 + np.log(0.2)}, abs=1e-3)


def test_of_a_list_the_most_repeated_value_counts(bundle: Bundle) -> None:
    found = after(bundle, {"diversity": {"by": "tags", "decay": 0.5}}, {"a2": 3, "b1": 2, "a1": 1, "a3": 0})
    assert found == pytest.approx({"a2": 3, "b1": 2, "a1": 1 + np.log(0.5), "a3": 0}, abs=1e-3)


def test_repeats_of_no_candidates_are_none() -> None:
    assert repeats_of(np.zeros((0, 3), dtype=np.int32)).tolist() == []
    assert repeats_of(np.array([[5], [0], [5], [0], [5]], dtype=np.int32)).tolist() == [0, 0, 1, 0, 2]


@pytest.mark.parametrize(
    ("boost", "raised"),
    [
        ({"feature": "author", "value": "ann", "factor": 3}, "a1 a2"),
        ({"feature": "tags", "values": ["sport", "other"], "factor": 3}, "a1 b1"),
        ({"feature": "words", "value": 200, "factor": 3}, "a1 b1"),
        ({"feature": "words", "value": "12.5", "factor": 3}, "a2"),
        ({"feature": "author", "value": "unknown author", "factor": 3}, ""),
        ({"feature": "author", "value": "ann", "add": float(np.log(3))}, "a1 a2"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_boost_raises_items_with_a_value(bundle: Bundle, boost: dict[str, Any], raised: str) -> None:
    scores = {"a1": -1.0, "a2": 0.0, "b1": 1.0, "c1": 2.0}
    found = after(bundle, {"boost": boost}, scores)
    assert found == pytest.approx(
        {item: score + np.log(3) * (item in raised.split()) for item, score in scores.items()}, abs=1e-3
    )


def test_a_factor_multiplies_scores_that_are_weights(bundle: Bundle) -> None:
    scores = {"a1": -1.0, "a2": 0.0, "b1": 1.0, "a3": 4.0}
    found = after(bundle, {"boost": {"feature": "author", "value": "ann", "factor": 0.5}}, scores, is_linear=True)
    assert found == pytest.approx({"a1": -2, "a2": 0, "b1": 1, "a3": 2})


def test_old_items_follow_all_others(bundle: Bundle) -> None:
    result = applied(bundle, [{"age_limit": {"hours": 24}}], ["a1", "a2", "a3", "b1", "c1"], [1, 5, 2, 3, 4])
    assert order_of(result) == ["c1", "b1", "a3", "a1", "a2"]  # an unknown age and the future are not old
    assert moved(result) == {"a2": ["age_limit"]}
    assert result.after.tolist() == result.before.tolist()


def test_a_time_in_seconds_of_another_feature(bundle: Bundle) -> None:
    rule = {"name": "fresh", "age_limit": {"seconds": NOW_MS / 1000 - 2, "feature": "born_s", "unit": "s"}}
    assert moved(applied(bundle, [rule], ["a1", "b1"], [2, 1])) == {"a1": ["fresh"]}


def test_what_a_caller_sends_comes_before_the_bundle(bundle: Bundle) -> None:
    scores, sent = {"a1": 2.0, "a2": 1.0, "b1": 0.0}, {"b1": {"author": "ann"}, "a1": {"author": ["x", "y", "z"]}}
    found = after(bundle, BY_AUTHOR, scores, features=sent)
    assert found == pytest.approx({"a1": 2, "a2": 1, "b1": np.log(0.5)}, abs=1e-3)
    new = after(bundle, BY_AUTHOR, scores, features={item: {"author": "new"} for item in scores})
    assert new == pytest.approx({"a1": 2, "a2": 1 + np.log(0.5), "b1": 2 * np.log(0.5)}, abs=1e-3)
    boost = {"boost": {"feature": "author", "value": "ann", "factor": 3}}
    assert after(bundle, boost, scores, features=sent) == pytest.approx(
        {"a1": 2, "a2": 1 + np.log(3), "b1": np.log(3)}, abs=1e-3
    )
    limit = {"age_limit": {"hours": 1, "feature": "born"}}
    old = applied(bundle, [limit], list(scores), list(scores.values()), {"a1": {"born": 5}, "a2": {"born": "old"}})
    assert order_of(old) == ["a2", "b1", "a1"]


def test_features_of_callers_only(bundle: Bundle) -> None:
    rule = {"diversity": {"by": "author", "decay": 0.5, "source": "callers"}}
    assert after(bundle, rule, {"a1": 2, "a2": 1}) == {"a1": 2, "a2": 1}
    sent = {"a1": {"author": "x"}, "a2": {"author": "x"}}
    assert after(bundle, rule, {"a1": 2, "a2": 1}, features=sent)["a2"] == pytest.approx(1 + np.log(0.5), abs=1e-3)


def test_old_items_do_not_use_up_the_places_of_their_author(bundle: Bundle) -> None:
    rules = [BY_AUTHOR, {"age_limit": {"hours": 24}}]
    result = applied(bundle, rules, ["a1", "a2", "a3"], [1, 3, 2])
    assert order_of(result) == ["a3", "a1", "a2"]
    assert result.after == pytest.approx([1 + np.log(0.5), 3 + 2 * np.log(0.5), 2], abs=1e-3)


def test_rules_follow_in_the_order_of_the_file(bundle: Bundle) -> None:
    boost = {"boost": {"feature": "words", "value": 200, "factor": 10}}
    scores = {"a1": 1.0, "a2": 2.0, "b1": 0.0}
    first = applied(bundle, [boost, BY_AUTHOR], list(scores), list(scores.values()))
    last = applied(bundle, [BY_AUTHOR, boost], list(scores), list(scores.values()))
    ten, half = float(np.log(10)), float(np.log(0.5))
    assert first.after == pytest.approx([1 + ten, 2 + half, ten], abs=1e-3)  # raised first, so the other one repeats
    assert last.after == pytest.approx([1 + half + ten, 2, ten], abs=1e-3)


def test_only_what_has_another_place_was_moved(bundle: Bundle) -> None:
    boost = {"boost": {"feature": "author", "value": "ann", "factor": 1.5}}
    result = applied(bundle, [BY_AUTHOR, boost], ["a1", "b1", "a2", "c1"], [4, 1.3, 1.5, 0])
    # a1 is raised and stays first, a2 falls though it is raised too, and b1 is only passed by.
    assert order_of(result) == ["a1", "b1", "a2", "c1"]
    assert moved(result) == {"a2": ["diversity:author", "boost:author"]}
    assert result.counts == {"diversity:author": 1, "boost:author": 1}


def test_an_unknown_item_has_no_score_to_change_but_an_age(bundle: Bundle) -> None:
    rules = [BY_AUTHOR, {"age_limit": {"hours": 1, "feature": "born"}}]
    result = applied(bundle, rules, ["new", "a1", "a2"], [2, 1], {"new": {"author": "ann", "born": 1}})
    assert result.after == pytest.approx([2, 1 + np.log(0.5)], abs=1e-3)
    assert moved(result) == {"new": ["age_limit"]}
