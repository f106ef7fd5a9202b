"""Arms on a track: what is promoted is served on all replicas, while an experiment runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from contract.bundle.tracks import promote, track_file
from contract.experiments.history import state_from_json, state_to_json
from service.experiments.audit import Audit
from service.experiments.tracks import RETRY_SECONDS, Tracks
from tests.support.experiment_files import servable
from tests.unit.service.experiments.test_shared_state import Replica

pytestmark = pytest.mark.anyio

TRACK: dict[str, Any] = {
    "layers__0__defaults": {"model": "mgnm", "track": "daily"},
    "layers__0__experiments__0__arms__1__params": {"model": "pyramid_mixer"},
}


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    promote(tmp_path, "mgnm", "daily", "6", "first")
    promote(tmp_path, "pyramid_mixer", "daily", "12", "first")
    return tmp_path


@pytest.fixture
def one(bundles: Path) -> Replica:
    return Replica(bundles, "one", bundles=bundles)


@pytest.fixture
def two(bundles: Path) -> Replica:
    return Replica(bundles, "two", bundles=bundles)


def served(replica: Replica) -> set[tuple[str, str]]:
    return set(replica.experiments.models)


async def test_promotion_is_served_by_all_replicas_while_an_experiment_runs(
    one: Replica, two: Replica, bundles: Path
) -> None:
    assert await one.write(servable(**TRACK)) == "accepted"
    assert await two.write(servable(**TRACK)) == "adopted"
    assert served(one) == served(two) == {("mgnm", "6"), ("pyramid_mixer", "12")}
    digest = one.experiments.snapshot.digest  # type: ignore[union-attr]
    promote(bundles, "mgnm", "daily", "7", "better")
    with capture_logs() as logs:
        assert await one.look() == "unchanged"
    assert [(log["track"], log["old_version"], log["version"]) for log in logs if log["event"] == "track_moved"] == [
        ("mgnm/daily", "6", "7")
    ]
    assert one.observer.tracks == ["taken"]
    assert await two.look() == "unchanged"
    assert served(one) == served(two) == {("mgnm", "7"), ("pyramid_mixer", "12")} == set(two.served)
    assert two.experiments.describe() == {
        "digest": digest, "revision": "2026-03-01.3", "tracks": {"mgnm/daily": "7", "pyramid_mixer/daily": "12"}
    }  # fmt: skip
    assert two.observer.tracks == []  # it followed


async def test_promotion_that_cannot_be_served_leaves_the_version_in_force(one: Replica, bundles: Path) -> None:
    await one.write(servable(**TRACK))
    one.broken.add(("mgnm", "7"))
    promote(bundles, "mgnm", "daily", "7", "better")
    promote(bundles, "pyramid_mixer", "daily", "13", "better")
    with capture_logs() as logs:
        assert [await one.look(), await one.look()] == ["unchanged"] * 2
    refused = [log for log in logs if log["event"] == "track_refused"]
    assert [(log["version"], log["version_in_force"], log["problems"]) for log in refused] == [
        ("7", "6", ("mgnm@7: damaged",))
    ]
    assert served(one) == {("mgnm", "6"), ("pyramid_mixer", "13")}  # the other track moved
    assert one.observer.tracks == ["refused", "taken"]


async def test_promotion_of_a_version_that_is_not_there_is_refused(one: Replica, bundles: Path) -> None:
    await one.write(servable(**TRACK))
    promote(bundles, "mgnm", "daily", "99", "typing error")
    with capture_logs() as logs:
        await one.look()
    assert [log["problems"] for log in logs if log["event"] == "track_refused"] == [("no such model: mgnm@99",)]
    assert ("mgnm", "6") in served(one)


async def test_earlier_version_can_be_promoted_again(one: Replica, bundles: Path) -> None:
    await one.write(servable(**TRACK))
    for version in ("7", "6"):
        promote(bundles, "mgnm", "daily", version, "")
        await one.look()
        assert ("mgnm", version) in served(one)


@pytest.mark.parametrize("damage", [b"{", None], ids=["damaged", "removed"])
async def test_track_file_that_is_lost_changes_nothing(one: Replica, bundles: Path, damage: bytes | None) -> None:
    await one.write(servable(**TRACK))
    promote(bundles, "mgnm", "daily", "7", "better")
    await one.look()
    path = track_file(bundles, "mgnm", "daily")
    path.unlink() if damage is None else path.write_bytes(damage)
    with capture_logs() as logs:
        assert [await one.look(), await one.look()] == ["unchanged"] * 2
    assert [log["event"] for log in logs] == ["track_unreadable"] * (damage is not None)
    restarted = Replica(bundles, "one", bundles=bundles)
    assert await restarted.look() in {"unchanged", "adopted"}
    assert ("mgnm", "7") in served(one) & served(restarted)


async def test_file_with_a_track_without_promotion_is_refused(one: Replica) -> None:
    assert await one.write(servable(**{**TRACK, "layers__0__defaults": {"model": "mgnm", "track": "hourly"}})) == (
        "not_servable"
    )
    assert one.experiments.problems == tuple(
        f"track {model}/hourly: nothing was promoted to it yet" for model in ("mgnm", "pyramid_mixer")
    )


async def test_version_that_is_named_stays(one: Replica, bundles: Path) -> None:
    params = {"model": "pyramid_mixer", "version": "12", "track": ""}
    defaults = {"model": "mgnm", "version": "", "track": "daily"}
    document = servable(layers__0__defaults=defaults, layers__0__experiments__0__arms__1__params=params)
    assert await one.write(document) == "accepted"
    promote(bundles, "mgnm", "daily", "7", "")
    promote(bundles, "pyramid_mixer", "daily", "13", "")
    await one.look()
    assert served(one) == {("mgnm", "7"), ("pyramid_mixer", "12")}


async def test_track_of_a_running_arm_cannot_change(one: Replica, bundles: Path) -> None:
    await one.write(servable(**TRACK))
    promote(bundles, "mgnm", "weekly", "7", "")
    promote(bundles, "pyramid_mixer", "weekly", "13", "")
    document = servable(**{**TRACK, "layers__0__defaults": {"model": "mgnm", "track": "weekly"}})
    assert await one.write(document) == "refused"
    assert any("default track is part of what running arms serve" in problem for problem in one.experiments.problems)


@pytest.mark.parametrize(
    ("defaults", "params", "problem"),
    [
        ({"model": "mgnm", "version": "7", "track": "daily"}, {}, "a version or a track, not both"),
        ({"model": "mgnm", "track": "../x"}, {}, "is not a name of a track"),
        ({"model": "mgnm", "version": "", "track": "daily"}, {"version": "7"}, 'add track: ""'),
        ({"model": "mgnm", "track": 1}, {}, "must be text"),
    ],
)
async def test_contradictions_are_refused_with_their_line(
    one: Replica, defaults: dict[str, object], params: dict[str, object], problem: str
) -> None:
    document = servable(layers__0__defaults=defaults, layers__0__experiments__0__arms__1__params=params)
    assert await one.write(document) == "invalid"
    assert problem in one.experiments.problems[0]
    assert one.experiments.problems[0].startswith("line ")


async def test_state_without_tracks_is_stored_as_before(one: Replica) -> None:
    await one.write(servable())
    state = one.experiments._shared.state
    assert state is not None
    assert b"tracks" not in state_to_json(state)
    assert state_from_json(state_to_json(state)) == state


def test_refused_promotion_is_tried_again_later() -> None:
    now = 0.0
    tracks = Tracks(None, Audit(), lambda: now)
    assert tracks.may_move("mgnm/daily", "7")
    tracks.refuse("mgnm/daily", "7")
    assert not tracks.may_move("mgnm/daily", "7")
    assert tracks.may_move("mgnm/daily", "8")
    now = RETRY_SECONDS
    assert tracks.may_move("mgnm/daily", "7")
