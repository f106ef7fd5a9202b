"""The weights of arms are checked against the bundles before a file is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.experiment_files import servable
from tests.unit.service.experiments.test_live import Rig

pytestmark = pytest.mark.anyio

TARGETS: dict[tuple[str, str], Mapping[str, float]] = {
    ("mgnm", "7"): {"click": 1.0, "like": 0.5},
    ("pyramid_mixer", "12"): {"click": 1.0, "finish": 0.0},
    ("pyramid_mixer", "13"): {},
}


def rig(folder: Path) -> Rig:
    async def prepare(_: object) -> None:
        return None

    return Rig(folder, prepare=prepare, targets_of=lambda model, version: TARGETS.get((model, version)))


def document(weights: object, model: str = "mgnm", version: str = "7", **edits: Any) -> dict[str, Any]:
    arm = {"model": model, "version": version, "targets": weights}
    defaults = {"model": "mgnm", "version": "7", "targets": {}}
    return servable(**{"layers__0__defaults": defaults, "layers__0__experiments__0__arms__1__params": arm} | edits)


async def test_weights_of_targets_that_the_bundle_has_are_accepted(tmp_path: Path) -> None:
    assert await rig(tmp_path).write(document({"like": 4.0})) == "accepted"


async def test_an_unknown_target_is_refused_with_experiment_arm_and_target(tmp_path: Path) -> None:
    one = rig(tmp_path)
    assert await one.write(document({"click": 1.0, "share": 4.0})) == "not_servable"
    assert one.experiments.problems == (
        "rank.pyramid-vs-mgnm:treatment: param targets: mgnm@7 has no target share; there are click, like",
    )


async def test_the_bundle_of_the_arm_counts(tmp_path: Path) -> None:
    one = rig(tmp_path)
    assert await one.write(document({"like": 4.0}, "pyramid_mixer", "12")) == "not_servable"
    assert "pyramid_mixer@12 has no target like; there are click, finish" in one.experiments.problems[0]
    assert await one.write(document({"like": 4.0}, "pyramid_mixer", "13")) == "not_servable"
    assert "pyramid_mixer@13 has no target like; the bundle has none" in one.experiments.problems[0]
    assert await one.write(document({"finish": 4.0}, "pyramid_mixer", "12")) == "accepted"


async def test_weights_of_a_layers_defaults_are_checked_too(tmp_path: Path) -> None:
    one = rig(tmp_path)
    assert await one.write(document({}, layers__0__defaults__targets={"share": 1.0})) == "not_servable"
    assert one.experiments.problems[0].startswith("rank: param targets: mgnm@7 has no target share")


async def test_weights_that_are_all_zero_are_refused(tmp_path: Path) -> None:
    one = rig(tmp_path)
    assert await one.write(document({"click": 0.0, "like": 0})) == "not_servable"
    assert "every weight is 0" in one.experiments.problems[0]
    assert await one.write(document({"click": 0.0})) == "accepted"  # like keeps the bundle's


async def test_a_stopped_experiment_may_name_targets_of_the_past(tmp_path: Path) -> None:
    stopped = document({"share": 4.0}, layers__0__experiments__0__status="stopped")
    assert await rig(tmp_path).write(stopped) == "accepted"
