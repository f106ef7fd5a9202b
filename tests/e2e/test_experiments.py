"""Several real service processes, one real Redis: they agree on experiments through restarts, faults and bad files."""

from __future__ import annotations

import copy
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from contract.bundle.manifest import MANIFEST
from service.experiments.state_stores import STATE_KEY
from tests.support.builders import TinyModel
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess

USERS = [f"u{number}" for number in range(12)]


class Fleet:
    """Replicas, each with a folder of its own."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self._folder, self._redis = folder, redis
        self._all: list[ServiceProcess] = []

    def replica(self, name: str, **settings: str) -> ServiceProcess:
        (self._folder / name).mkdir(exist_ok=True)
        settings = {"EXPERIMENTS__RELOAD_MS": "100", "PAGE__ENABLED": "false"} | settings
        made = ServiceProcess(self._folder / name, self._redis.url, **settings)
        self._all.append(made)
        return made

    def close(self) -> None:
        for one in self._all:
            one.close()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture
def fleet(tmp_path: Path, redis: RedisServer) -> Iterator[Fleet]:
    made = Fleet(tmp_path, redis)
    yield made
    made.close()


def document(replica: ServiceProcess) -> dict[str, Any]:
    return dict(yaml.safe_load(replica.experiments.read_text()))


def publish(replica: ServiceProcess, **edits: Any) -> dict[str, Any]:
    """Change the experiment, or the file, on one replica's disk."""
    wanted = document(replica)
    experiment = wanted["layers"][0]["experiments"][0]
    for name, value in edits.items():
        (experiment if name in experiment else wanted)[name] = value
    replica.experiments.write_text(yaml.safe_dump(wanted))
    return wanted


def arms(replica: ServiceProcess) -> dict[str, str]:
    """Return the arm of each user, from the service's header."""
    found = {}
    for user in USERS:
        answer = httpx.post(f"{replica.url}/rank", json={"user_id": user, "candidates": ["i1", "i2"]})
        assert answer.status_code == 200
        found[user] = answer.headers["x-ab-bucket"]
    return found


def digest(replica: ServiceProcess) -> str:
    return str(httpx.get(f"{replica.url}/info").json()["experiments"]["digest"])


def until_results(replica: ServiceProcess, result: str, count: int = 1) -> None:
    is_so: Callable[[], bool] = lambda: replica.metric("ranker_experiments_reload_total", result=result) >= count  # noqa: E731
    replica.until(is_so, result)


@pytest.mark.slow
def test_restarted_replica_refuses_the_edit_that_its_neighbour_refuses(fleet: Fleet) -> None:
    one, two = fleet.replica("one").start(), fleet.replica("two").start()
    before = arms(one)
    assert arms(two) == before
    for replica in (one, two):
        publish(replica, salt="another-salt")
    until_results(one, "refused")
    two.send(signal.SIGKILL)
    two.wait()
    two.start()
    assert arms(two) == arms(one) == before
    assert two.metric("ranker_experiments_file_in_force") == 0
    two.will_log("salt cannot change once it runs")


@pytest.mark.parametrize(
    "bad",
    [pytest.param("layers: [", marks=pytest.mark.slow), "schema: 1\nrevision: x\nlayers: []\nlayerz: []\n"],
    ids=["not YAML", "unknown field"],
)
def test_replica_that_starts_with_a_bad_file_serves_the_last_accepted_one(fleet: Fleet, bad: str) -> None:
    one = fleet.replica("one").start()
    before, known = arms(one), digest(one)
    one.experiments.write_text(bad)
    one.send(signal.SIGTERM)
    assert one.wait() == 0
    one.start()
    assert (arms(one), digest(one)) == (before, known)
    assert one.metric("ranker_experiments_file_in_force") == 0
    assert one.metric("ranker_experiments_state_shared") == 1
    one.will_log('"result":"invalid"')


@pytest.mark.slow
def test_replica_that_starts_with_a_bundle_that_cannot_be_served_serves_the_last_accepted_file(fleet: Fleet) -> None:
    one = fleet.replica("one").start()
    before, known = arms(one), digest(one)
    TinyModel(model="sasrec").write(one.bundles)
    (one.bundles / "sasrec" / "1" / MANIFEST).write_text("{")
    wanted = publish(one, status="stopped")
    arm = wanted["layers"][0]["experiments"][0]
    new = {**copy.deepcopy(arm), "key": "next", "salt": "next", "status": "running", "arms": [
        {"key": "control", "buckets": [[0, 5000]]},
        {"key": "treatment", "buckets": [[5000, 10000]], "params": {"model": "sasrec", "version": "1"}},
    ]}  # fmt: skip
    wanted["layers"][0]["experiments"].append(new)
    one.experiments.write_text(yaml.safe_dump(wanted))
    one.send(signal.SIGKILL)
    one.wait()
    one.start()
    assert (arms(one), digest(one)) == (before, known)
    one.will_log("not_servable")


@pytest.mark.slow
def test_edit_that_one_replica_accepts_reaches_a_replica_that_does_not_have_the_file_yet(fleet: Fleet) -> None:
    one, two = fleet.replica("one").start(), fleet.replica("two").start()
    old = digest(one)
    publish(one, enabled=False)
    one.until(lambda: digest(one) != old, "accepted")
    two.until(lambda: digest(two) == digest(one), "adopted")
    assert arms(one) == arms(two)
    two.will_log("experiments_adopted")
    until_results(two, "superseded", 3)  # its own older file does not take the edit back
    assert digest(one) == digest(two) != old
    two.experiments.write_text(one.experiments.read_text())
    two.until(lambda: two.metric("ranker_experiments_file_in_force") == 1, "up to date")
    publish(one, enabled=True)  # the same bytes as at first: an edit, and no old file
    one.until(lambda: digest(one) == old, "switched on again")
    two.until(lambda: digest(two) == old, "switched on again")


@pytest.mark.slow
def test_replica_that_starts_with_an_old_file_serves_the_newer_state(fleet: Fleet) -> None:
    one = fleet.replica("one").start()
    old = one.experiments.read_text()
    known = digest(one)
    publish(one, revision="newer")
    one.until(lambda: digest(one) != known, "accepted")
    two = fleet.replica("two")
    two.experiments.write_text(old)
    two.start()
    time.sleep(0.5)
    assert digest(two) == digest(one) != known
    two.will_log("experiments_file_superseded")


@pytest.mark.slow
def test_two_replicas_with_different_files_agree_on_one(fleet: Fleet) -> None:
    one, two = fleet.replica("one"), fleet.replica("two")
    publish(one, salt="salt-of-one", revision="one")
    publish(two, salt="salt-of-two", revision="two")
    one.spawn()
    two.start()
    one.until(lambda: one.metric("ranker_ready") == 1 if _answers(one) else False, "ready")
    one.until(lambda: digest(one) == digest(two), "agreed")
    assert arms(one) == arms(two)
    time.sleep(0.5)
    assert digest(one) == digest(two)
    in_force = [replica.metric("ranker_experiments_file_in_force") for replica in (one, two)]
    assert sorted(in_force) == [0, 1]


@pytest.mark.slow
def test_service_without_redis_at_start_says_so_and_follows_when_it_is_back(fleet: Fleet, redis: RedisServer) -> None:
    one, two = fleet.replica("one"), fleet.replica("two", EXPERIMENTS__STATE_TIMEOUT_MS="200")
    publish(one, revision="of all")
    one.start()
    agreed = digest(one)
    publish(two, salt="of-its-own")
    redis.freeze()
    two.start()
    assert two.metric("ranker_experiments_state_shared") == 0
    assert digest(two) != agreed
    redis.thaw()
    two.until(lambda: digest(two) == agreed, "reconciled")
    assert arms(two) == arms(one)
    assert two.metric("ranker_experiments_state_shared") == 1
    two.will_log("experiments_state_overruled")


@pytest.mark.slow
def test_start_while_the_store_is_away_serves_the_copy_although_the_file_is_bad(
    fleet: Fleet, redis: RedisServer, tmp_path: Path
) -> None:
    one = fleet.replica("one", EXPERIMENTS__STATE_COPY=str(tmp_path / "copy.json")).start()
    before = digest(one)
    one.send(signal.SIGKILL)
    one.wait()
    redis.kill()
    one.experiments.write_text("layers: [")
    one.start()
    assert digest(one) == before
    assert one.metric("ranker_experiments_state_shared") == 0


@pytest.mark.slow
def test_state_in_a_file_that_replicas_share(fleet: Fleet, redis: RedisServer, tmp_path: Path) -> None:
    state = {"EXPERIMENTS__STATE": str(tmp_path / "state.json")}
    one, two = fleet.replica("one", **state).start(), fleet.replica("two", **state).start()
    assert redis.call("EXISTS", STATE_KEY) == b":0\r\n"
    old = digest(one)
    publish(one, enabled=False)
    two.until(lambda: digest(two) == digest(one) != old, "adopted")


def test_folder_of_the_state_file_that_is_not_there_refuses_to_start(fleet: Fleet, tmp_path: Path) -> None:
    one = fleet.replica("one", EXPERIMENTS__STATE=str(tmp_path / "nowhere" / "state.json"))
    status, said = one.refusal()
    assert status == 1
    assert f"RANKER_EXPERIMENTS__STATE: {tmp_path}/nowhere is not a folder" in said


def test_bad_file_without_any_state_refuses_to_start_with_line_and_field(fleet: Fleet) -> None:
    one = fleet.replica("one")
    publish(one, status="paused")
    status, said = one.refusal()
    lines = one.experiments.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "status: paused" in text)
    assert status == 1
    assert f"(invalid): line {line}: layers.0.experiments.0.status: " in said


@pytest.mark.slow
def test_file_on_a_mount_that_hangs_keeps_neither_the_service_nor_its_end(fleet: Fleet) -> None:
    one = fleet.replica("one").start()
    before = arms(one)
    one.experiments.unlink()
    os.mkfifo(one.experiments)  # opening it waits forever, as a dead network mount waits
    time.sleep(0.5)
    assert arms(one) == before
    one.send(signal.SIGTERM)
    assert one.wait() == 0


def test_answer_carries_the_parameters_of_the_arm_in_every_layer(fleet: Fleet) -> None:
    one = fleet.replica("one")
    wanted = document(one)
    arm = wanted["layers"][0]["experiments"][0]
    blend = {**copy.deepcopy(arm), "key": "blend", "salt": "blend", "arms": [
        {"key": "control", "buckets": [[0, 5000]]},
        {"key": "treatment", "buckets": [[5000, 10000]], "params": {"diversity": 0.5}},
    ]}  # fmt: skip
    layer = {"key": "blend", "salt": "blend-slots", "defaults": {"diversity": 0.0, "fresh": True}}
    wanted["layers"].append({**layer, "experiments": [blend]})
    one.experiments.write_text(yaml.safe_dump(wanted))
    one.start()
    seen = set()
    for user in USERS:
        answer = httpx.post(f"{one.url}/rank", json={"user_id": user, "candidates": ["i1"]})
        treated = "blend=blend:treatment" in answer.headers["x-ab-bucket"]
        model = "pyramid_mixer" if "rank=pyramid-vs-mgnm:treatment" in answer.headers["x-ab-bucket"] else "mgnm"
        expected = {"model": model, "version": "1", "diversity": 0.5 if treated else 0.0, "fresh": True}
        assert answer.json()["parameters"] == expected
        seen.add((treated, model))
    assert len(seen) == 4


def _answers(replica: ServiceProcess) -> bool:
    try:
        return httpx.get(f"{replica.url}/health/ready").status_code == 200
    except httpx.TransportError:
        return False
