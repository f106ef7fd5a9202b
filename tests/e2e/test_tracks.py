"""Two real replicas, one folder of bundles, an experiment that runs: a promotion reaches both under load."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis as redis_client
import yaml

from contract.bundle.manifest import MANIFEST
from contract.bundle.tracks import promote
from contract.events.streams import EXPOSURE_STREAM
from tests.support.builders import TinyModel
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess


class Callers:
    """Threads that rank, one after another, until the end of the block."""

    def __init__(self, replicas: list[ServiceProcess]) -> None:
        self._over = threading.Event()
        self.answers: list[tuple[int, str]] = []
        self._threads = [
            threading.Thread(target=self._rank, args=(one.url, place)) for place, one in enumerate(replicas)
        ]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _rank(self, url: str, place: int) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            for number in range(1_000_000):
                if self._over.is_set():
                    return
                body = {"user_id": f"u{place}-{number}", "candidates": ["i1", "i2", "i3"]}
                answer = client.post("/rank", json=body)
                self.answers.append((answer.status_code, answer.headers.get("x-model", "")))


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.close()


def version(replica: ServiceProcess) -> str:
    return str(httpx.get(f"{replica.url}/info").json()["experiments"]["tracks"]["mgnm/daily"])


def publish(replica: ServiceProcess) -> None:
    """Put both arms on the track daily."""
    document = yaml.safe_load(replica.experiments.read_text())
    layer = document["layers"][0]
    layer["defaults"] = {"model": "mgnm", "track": "daily"}
    for arm in layer["experiments"][0]["arms"]:
        arm["params"] = {} if arm["key"] == "control" else {"model": "pyramid_mixer"}
    replica.experiments.write_text(yaml.safe_dump(document))


@pytest.mark.slow
def test_promotion_reaches_both_replicas_without_a_lost_request(tmp_path: Path, redis: RedisServer) -> None:
    folder = tmp_path / "one" / "bundles"
    settings = {"EXPERIMENTS__RELOAD_MS": "100", "PAGE__ENABLED": "false"}
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir()
    one = ServiceProcess(tmp_path / "one", redis.url, **settings)
    two = ServiceProcess(tmp_path / "two", redis.url, **settings, BUNDLES__ROOT=str(folder))
    try:
        for model in ("mgnm", "pyramid_mixer"):
            promote(folder, model, "daily", "1", "first")
        for replica in (one, two):
            publish(replica)
            replica.start()
        TinyModel(model="mgnm", version="2").write(folder)
        TinyModel(model="mgnm", version="3").write(folder)
        (folder / "mgnm" / "3" / MANIFEST).write_text("{")
        with Callers([one, two]) as callers:
            one.until(lambda: len(callers.answers) > 50, "rankings before the promotion")
            promote(folder, "mgnm", "daily", "2", "better")
            for replica in (one, two):
                replica.until(lambda replica=replica: version(replica) == "2", "version 2")  # type: ignore[misc]
            seen = len(callers.answers)
            one.until(lambda: len(callers.answers) > seen + 50, "rankings after the promotion")
            promote(folder, "mgnm", "daily", "3", "damaged")
            one.until(
                lambda: sum(each.metric("ranker_track_promotions_total", result="refused") for each in (one, two)) >= 1,
                "a refusal",
            )
            assert version(one) == version(two) == "2"
            promote(folder, "mgnm", "daily", "1", "back")
            for replica in (one, two):
                replica.until(lambda replica=replica: version(replica) == "1", "version 1 again")  # type: ignore[misc]
        assert {status for status, _ in callers.answers} == {200}
        assert {model for _, model in callers.answers} == {"mgnm@1", "mgnm@2", "pyramid_mixer@1"}
        for replica in (one, two):  # a restart finds the version in force, also without the file of the track
            (folder / "mgnm" / "tracks" / "daily.json").unlink(missing_ok=True)
            replica.send(15)
            assert replica.wait() == 0
        one.start()
        assert version(one) == "1"
    finally:
        one.close()
        two.close()
    with redis_client.Redis.from_url(redis.url) as client:
        exposures = [json.loads(fields[b"event"]) for _, fields in client.xrange(EXPOSURE_STREAM)]
    named = {(one["arm"], one["model"], one["ver"], one["served_ver"]) for one in exposures}
    assert named == {
        ("control", "mgnm", "1", "1"), ("control", "mgnm", "2", "2"), ("treatment", "pyramid_mixer", "1", "1")
    }  # fmt: skip
