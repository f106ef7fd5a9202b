"""The shadow of an arm in the experiment file: who has one, and what may change."""

from __future__ import annotations

from typing import Any

import pytest

from contract.experiments.assignment import snapshot_of
from contract.experiments.history import experiment_file
from contract.experiments.problems import ExperimentsError
from contract.experiments.ramps import propose
from contract.experiments.served import unserved
from contract.experiments.shadows import ShadowBundle
from contract.experiments.tracks import tracks_of
from deploy.experiments import current

NOW = 1_795_608_000_000
SHADOW = {"model": "pyramid_mixer", "version": "2", "share": 0.5}


def document(arm: Any = None, layer: Any = None) -> dict[str, Any]:
    """One experiment over half of the layer: the control has a shadow, or everyone without an arm."""
    made = current(now=NOW / 1000)
    first = made["layers"][0]
    first["experiments"] = first["experiments"][:1]
    first["experiments"][0]["slots"] = [[0, 5_000]]
    if arm is not None:
        next(one for one in first["experiments"][0]["arms"] if one["key"] == "control")["shadow"] = arm
    if layer is not None:
        first["shadow"] = layer
    return made


def test_an_arm_has_its_own_shadow_and_users_without_an_arm_that_of_the_layer() -> None:
    other = {"model": "mgnm", "share": 1.0}
    snapshot = snapshot_of(document(SHADOW, other), lambda one: {**one, "version": one.get("version", "?")})
    found: dict[str | None, set[ShadowBundle | None]] = {}
    for number in range(400):
        decision = snapshot.decide(f"u{number}", {}, NOW)
        arm = next(layer for layer in decision.layers if layer.layer == "rank").arm
        found.setdefault(arm, set()).add(decision.shadow)
    assert found == {
        None: {ShadowBundle("mgnm", "latest", 1.0)},
        "control": {ShadowBundle("pyramid_mixer", "2", 0.5)},
        "treatment": {None},
    }
    assert snapshot_of(document()).decide("u1", {}, NOW).shadow is None


def test_the_version_is_the_one_that_the_file_resolves_to() -> None:
    snapshot = snapshot_of(
        document(layer={"model": "mgnm", "track": "daily", "share": 1.0}), lambda one: {**one, "version": "9"}
    )
    assert snapshot.layers[0].shadow == ShadowBundle("mgnm", "9", 1.0)
    assert "mgnm/daily" in tracks_of(snapshot.config)


def test_the_sample_has_its_share_is_the_same_everywhere_and_grows_with_the_share() -> None:
    small, large = ShadowBundle("m", "1", 0.1), ShadowBundle("m", "1", 0.3)
    ids = [f"r{number}" for number in range(10_000)]
    taken = [request_id for request_id in ids if small.takes(request_id)]
    assert 850 < len(taken) < 1150
    assert all(large.takes(request_id) for request_id in taken)
    assert taken[:3] == ["r10", "r13", "r15"]


def test_a_shadow_can_change_while_its_experiment_runs_and_the_arms_cannot() -> None:
    first = propose(None, experiment_file(document()), NOW).state
    second = propose(first, experiment_file(document(SHADOW, SHADOW)), NOW).state
    third = propose(second, experiment_file(document({**SHADOW, "share": 1.0})), NOW)
    assert second is not None
    assert third.state is not None
    changed = document(SHADOW)
    changed["layers"][0]["experiments"][0]["arms"][0]["params"] = {"model": "popularity"}
    assert propose(second, experiment_file(changed), NOW).problems


@pytest.mark.parametrize(
    "change", [{"share": 0}, {"share": 1.1}, {"model": "../x"}, {"track": "daily"}, {"more": 1}, {"share": None}]
)
def test_a_malformed_shadow_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ExperimentsError):
        experiment_file(document({**SHADOW, **change}))


def test_a_layer_without_a_model_and_an_interleaved_experiment_have_no_shadow() -> None:
    made = document(SHADOW)
    made["layers"][0]["experiments"][0]["kind"] = "interleave"
    made["layers"].append({"key": "look", "salt": "look", "defaults": {"colour": "blue"}, "shadow": SHADOW})
    texts = [problem.text for problem in unserved(experiment_file(made).config)]
    assert any("interleaved ranking has no scores" in text for text in texts)
    assert "look: only a layer with a model can have a shadow" in texts
