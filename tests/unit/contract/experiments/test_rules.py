"""The set of rules in the decision for a unit: of every reason, and from any layer."""

from __future__ import annotations

from typing import Any

import pytest

from contract.experiments.assignment import ExperimentsSnapshot, snapshot_of
from contract.experiments.parse import parse_experiments
from contract.experiments.rules import RuleSets, ruled_features
from contract.experiments.served import unserved
from tests.support.experiment_files import NOW_MS, example, servable

E0 = "layers__0__experiments__0"
SETS: dict[str, Any] = {
    "spread": [
        {"diversity": {"by": "author", "decay": 0.5}},
        {"name": "cup", "boost": {"feature": "topic", "value": 3, "add": 1}},
    ],
    "fresh": [{"age_limit": {"hours": 24}}],
}


def snapshot(**edits: Any) -> ExperimentsSnapshot:
    edits = {"rules": SETS, "layers__0__defaults__rules": "fresh", f"{E0}__target": None, **edits}
    edits[f"{E0}__arms"] = [
        {"key": "control", "buckets": [[0, 5000]], "params": {}},
        {"key": "treatment", "buckets": [[5000, 10000]], "params": {"rules": "spread"}},
    ]
    return snapshot_of(example(**edits))


def test_an_arm_s_set_comes_before_the_layer_s() -> None:
    served = snapshot()
    found = {
        (decision.layers[0].arm, decision.rules)
        for unit in map(str, range(300))
        if (decision := served.decide(unit, {}, NOW_MS)).layers[0].experiment in (None, "pyramid-vs-mgnm")
    }
    assert found == {(None, "fresh"), ("control", "fresh"), ("treatment", "spread")}


def test_units_without_a_decision_have_the_default_set() -> None:
    off, on = snapshot(enabled=False), snapshot()
    assert [one.rules for one in (off.decide("12", {}, NOW_MS), on.decide(None, {}, NOW_MS))] == ["fresh"] * 2
    assert on.undecided("error").rules == "fresh"


def test_a_layer_without_a_model_may_name_the_set() -> None:
    layer = {"key": "look", "salt": "look", "defaults": {"rules": "spread"}}
    named = snapshot_of(servable(rules=SETS, layers__1=layer))
    assert named.decide("12", {}, NOW_MS).rules == "spread"


def test_without_sets_the_parameter_is_the_caller_s() -> None:
    layer = {"key": "look", "salt": "look", "defaults": {"rules": "house"}}
    document = servable(layers__1=layer)
    config, _ = parse_experiments(document)
    assert unserved(config) == []
    assert snapshot_of(document).decide("12", {}, NOW_MS).rules == ""
    ruled, _ = parse_experiments(servable(layers__1=layer, rules=SETS))
    assert [one.text for one in unserved(ruled)] == ["look: param rules 'house' is not a set of rules of this file"]


@pytest.mark.parametrize(("rule", "limit_ms"), [({"hours": 1.5}, 5_400_000), ({"seconds": 2}, 2_000)])
def test_an_age_limit_is_in_milliseconds(rule: dict[str, float], limit_ms: float) -> None:
    config, _ = parse_experiments(example(rules={"fresh": [{"age_limit": rule}]}))
    limit = config.rules["fresh"][0].age_limit
    assert limit is not None
    assert limit.limit_ms == limit_ms


def test_features_and_names_of_a_set() -> None:
    sets: RuleSets = parse_experiments(example(rules=SETS))[0].rules
    assert ruled_features(sets) == {"author", "topic", "first_seen"}
    assert [rule.label for rule in sets["spread"]] == ["diversity:author", "cup"]
