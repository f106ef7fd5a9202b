"""Replicas that share a state file: each has its own experiment file, its own bundles and its own clock."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from contract.experiments.problems import ExperimentsError
from service.experiments.arm_models import Models
from service.experiments.live import Experiments
from service.experiments.shared_state import SharedState
from service.experiments.state_stores import FileStateStore
from tests.support.experiment_files import NOW_MS, servable
from tests.unit.service.experiments.test_live import IOS, VERSIONS, Observer

pytestmark = pytest.mark.anyio

IDLE: dict[str, Any] = {"layers__0__experiments": [], "overrides__units": {}}
LATEST: dict[str, Any] = {"layers__0__defaults__version": "latest"}
SECONDS = 5.0


class Replica:
    def __init__(self, folder: Path, name: str, **options: Any) -> None:
        self.path = folder / f"{name}.yaml"
        self.versions = {model: list(versions) for model, versions in VERSIONS.items()}
        self.broken: set[tuple[str, str]] = set()
        self.served: Models = frozenset()
        self.observer = Observer()
        self.clock_ms = NOW_MS
        seconds = options.pop("seconds", SECONDS)
        state = options.pop("state", folder / "state.json")
        self.experiments = Experiments(
            self.path,
            versions=lambda model: self.versions.get(model, []),
            observer=self.observer,
            prepare=self.prepare,
            shared=SharedState(FileStateStore(state, seconds, lambda: NOW_MS), now_ms=lambda: self.clock_ms),
            now_ms=lambda: self.clock_ms,
            **options,
        )

    async def prepare(self, models: Models) -> None:
        if broken := sorted(models & self.broken):
            raise ExperimentsError([f"{model}@{version}: damaged" for model, version in broken])
        self.served = models

    async def write(self, document: object) -> str:
        self.path.write_text(document if isinstance(document, str) else yaml.safe_dump(document), encoding="utf-8")
        return await self.experiments.reload()

    async def look(self) -> str:
        return await self.experiments.reload()

    @property
    def revision(self) -> str:
        assert self.experiments.snapshot is not None
        return self.experiments.snapshot.config.revision

    def model_of(self, unit: str) -> object:
        return self.experiments.decide(unit, IOS, NOW_MS).parameters["version"]


@pytest.fixture
def one(tmp_path: Path) -> Replica:
    return Replica(tmp_path, "one")


@pytest.fixture
def two(tmp_path: Path) -> Replica:
    return Replica(tmp_path, "two")


async def test_latest_is_the_same_version_on_replicas_with_different_bundles(one: Replica, two: Replica) -> None:
    two.versions["mgnm"].append("8")
    assert await one.write(servable(**LATEST)) == "accepted"
    assert await two.write(servable(**LATEST)) == "adopted"
    assert (one.model_of("1"), two.model_of("1")) == ("7", "7")


async def test_replica_that_starts_moves_latest_on_for_all_while_nothing_runs(one: Replica, two: Replica) -> None:
    two.versions["mgnm"].append("8")
    await one.write(servable(**IDLE, **LATEST))
    assert await two.write(servable(**IDLE, **LATEST)) == "accepted"
    one.versions["mgnm"].append("8")
    assert await one.look() == "unchanged"
    assert (one.model_of("1"), two.model_of("1")) == ("8", "8")
    assert await two.look() == "unchanged"


async def test_bundle_that_is_missing_on_one_replica_moves_no_user(one: Replica, two: Replica) -> None:
    await one.write(servable(revision="first"))
    await two.write(servable(revision="first"))
    two.broken.add(("pyramid_mixer", "13"))
    document = servable(revision="second")
    document["layers"][0]["experiments"].append({
        **servable()["layers"][0]["experiments"][1], "key": "new", "salt": "new", "slots": [[5000, 10000]],
        "arms": [
            {"key": "control", "buckets": [[0, 5000]]},
            {"key": "next", "buckets": [[5000, 10000]], "params": {"model": "pyramid_mixer", "version": "13"}},
        ],
    })  # fmt: skip
    assert await one.write(document) == "accepted"
    with capture_logs() as logs:
        for _ in range(3):
            assert await two.look() == "superseded"
    assert [line["event"] for line in logs if line["event"] == "experiments_models_missing"] != []
    users = [str(number) for number in range(200)]
    arms = [[replica.experiments.decide(user, IOS, NOW_MS).header() for user in users] for replica in (one, two)]
    assert arms[0] == arms[1]
    assert two.served == {("mgnm", "7"), ("pyramid_mixer", "12")}
    two.broken.clear()
    await two.look()
    assert ("pyramid_mixer", "13") in two.served


async def test_state_whose_default_cannot_be_served_here_keeps_the_one_before(one: Replica, two: Replica) -> None:
    await one.write(servable(**IDLE, revision="first"))
    await two.write(servable(**IDLE, revision="first"))
    two.broken.add(("mgnm", "6"))
    assert await one.write(servable(**IDLE, revision="second", layers__0__defaults__version="6")) == "accepted"
    assert await two.look() == "not_servable"
    assert two.revision == "first"
    assert two.observer.state["is_file_in_force"] is False
    two.broken.clear()
    assert await two.look() == "superseded"
    assert two.revision == "second"


async def test_file_that_one_replica_cannot_serve_reaches_no_other(one: Replica, two: Replica) -> None:
    await one.write(servable(revision="first"))
    await two.write(servable(revision="first"))
    one.broken.add(("mgnm", "6"))
    wanted = servable(revision="second")
    wanted["layers"][0]["experiments"] = [{**each, "status": "stopped"} for each in wanted["layers"][0]["experiments"]]
    wanted["overrides"]["units"] = {}
    wanted["layers"][0]["defaults"]["version"] = "6"
    assert await one.write(wanted) == "not_servable"
    assert await two.look() == "unchanged"
    assert (one.revision, two.revision) == ("first", "first")


async def test_machine_that_gets_its_files_late_follows_and_takes_nothing_back(one: Replica, two: Replica) -> None:
    on, off = servable(revision="on"), servable(revision="off", enabled=False)
    await one.write(on)
    await two.write(on)
    assert await one.write(off) == "accepted"
    assert await two.look() == "superseded"
    assert await one.write(on) == "accepted"
    assert await two.write(off) == "superseded"  # late: its disk is where the fleet was one edit ago
    assert (one.revision, two.revision) == ("on", "on")
    assert await two.write(on) in {"accepted", "unchanged"}
    assert await two.write(off) == "accepted"  # nothing is late now: this is an edit
    assert await one.look() == "superseded"
    assert (one.revision, two.revision) == ("off", "off")


async def test_files_that_differ_for_ever_do_not_take_turns(one: Replica, two: Replica) -> None:
    await one.write(servable(revision="of one"))
    assert await two.write(servable(revision="of two")) == "accepted"
    for _ in range(5):
        assert await one.look() == "superseded"
        assert await two.look() == "unchanged"
    assert (one.revision, two.revision) == ("of two", "of two")


async def test_replica_with_a_slow_clock_judges_by_the_clock_of_the_store(one: Replica) -> None:
    one.clock_ms = NOW_MS - 365 * 86_400_000  # before the experiments began
    await one.write(servable())
    assert await one.write(servable(layers__0__experiments__0__salt="other")) == "refused"


async def test_state_on_a_mount_that_hangs_costs_a_look_its_time_limit(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # opening it waits until somebody writes, as a dead network mount waits
    before = set(threading.enumerate())  # those of other tests may be about to end
    replica = Replica(tmp_path, "one", state=pipe, seconds=0.2)
    assert await replica.write(servable(revision="first")) == "accepted"  # by itself
    assert replica.observer.state["is_shared"] is False
    assert await replica.write(servable(revision="second")) == "accepted"
    started = [thread.name for thread in set(threading.enumerate()) - before]
    assert len([name for name in started if name.startswith("experiment-stat")]) == 1


async def test_file_on_a_mount_that_hangs_is_unreadable_and_the_next_look_goes_on(tmp_path: Path) -> None:
    replica = Replica(tmp_path, "one", read_seconds=0.2)
    await replica.write(servable(revision="first"))
    good = replica.path.read_bytes()
    replica.path.unlink()
    os.mkfifo(replica.path)
    assert [await replica.look() for _ in range(3)] == ["unreadable"] * 3
    assert replica.revision == "first"
    writer = os.open(replica.path, os.O_RDWR | os.O_NONBLOCK)  # the mount is back
    try:
        replica.path.unlink()
        replica.path.write_bytes(good)
    finally:
        os.close(writer)
    deadline = time.monotonic() + 60
    while await replica.look() != "unchanged":
        assert time.monotonic() < deadline
