"""The verdict of the daily loop."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.daily.verdict import verdict

METRIC = "unseen.ndcg@10"


def document(value: float, popularity: float = 0.02) -> dict[str, Any]:
    below = ["popularity"] if value < popularity else []
    baselines = {"popularity": {METRIC: popularity}, "popularity_of_day": {METRIC: 0.04}, "chance": {METRIC: 0.001}}
    return {
        "first_metric": METRIC, "test": {METRIC: value}, "baselines": baselines, "below": below,
        "queries": {"test": 300}, "view_queries": {"test": {"unseen": 310, "warm": 200, "cold": 110}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("candidate", "before", "promoted", "words"),
    [
        (0.05, None, True, "unseen.ndcg@10 0.0500, no bundle before, popularity 0.0200"),
        (0.05, 0.04, True, "unseen.ndcg@10 0.0500, in force 0.0400, popularity 0.0200"),
        (0.0385, 0.04, True, "in force 0.0400"),
        (0.0379, 0.04, False, "unseen.ndcg@10 0.0379 is below the bundle in force, 0.0400"),
        (0.0199, None, False, "unseen.ndcg@10 0.0199 is below popularity, 0.0200"),
        (0.0199, 0.01, False, "is below popularity"),
    ],
)
def test_a_candidate_must_reach_popularity_and_nearly_the_bundle_in_force(
    candidate: float, before: float | None, promoted: bool, words: str
) -> None:
    found = verdict(document(candidate), None if before is None else document(before), tolerance=0.05)
    assert found.promote is promoted
    assert words in found.reason
    assert (found.figures["candidate"], found.figures["in_force"], found.figures["queries"]) == (candidate, before, 300)


def test_targets_that_training_met_and_did_not_meet_are_shown_apart() -> None:
    candidate, before = document(0.05), document(0.04)
    for one, value in ((candidate["test"], 0.06), (before["test"], 0.01), (candidate["baselines"]["chance"], 0.002)):
        one["cold.ndcg@10"] = value
    for name in ("popularity", "popularity_of_day"):
        candidate["baselines"][name]["cold.ndcg@10"] = 0.003
    views = verdict(candidate, before, tolerance=0.05).figures["views"]
    assert list(views) == ["unseen", "cold"]  # there was no target that training met
    assert views["cold"] == {
        "candidate": 0.06, "in_force": 0.01, "popularity": 0.003, "popularity_of_day": 0.003, "chance": 0.002,
        "queries": 110,
    }  # fmt: skip
    assert verdict(candidate, None, tolerance=0.05).figures["views"]["cold"]["in_force"] is None
