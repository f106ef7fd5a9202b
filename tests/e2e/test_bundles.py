"""Bundles that hurt, published to a running service: it continues answering, and ends when it is told to."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest

from contract.bundle.manifest import CATALOGUE
from deploy.experiments import write_current
from tests.support.builders import TinyModel
from tests.support.processes import children, is_fork_server
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

BODY = {"user_id": "u1", "candidates": ["i1", "i2", "i3"]}
MIB = 2**20
FILE = """
schema: 1
revision: "{revision}"
layers:
  - key: rank
    salt: rank
    defaults: {{model: mgnm, version: "{version}"}}
"""


class Published(ServiceProcess):
    """A service whose only layer serves one version of one model."""

    def __init__(self, folder: Path, redis_url: str, **settings: str) -> None:
        TinyModel(model="mgnm").write(folder / "bundles")
        super().__init__(folder, redis_url, EXPERIMENTS__RELOAD_MS="100", **settings)
        self.publish("1")

    def publish(self, version: str) -> None:
        """Replace the experiment file, as a deployment does."""
        new = self.folder / "new.yaml"
        new.write_text(FILE.format(revision=f"r{version}", version=version))
        new.replace(self.experiments)

    def write(self, model: TinyModel) -> Path:
        return model.write(self.folder / "bundles")

    def peak_bytes(self) -> int:
        """Return the most resident memory that the process ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def version(self) -> str:
        """Return the version that answers."""
        answer = httpx.post(f"{self.url}/rank", json=BODY)
        assert (answer.status_code, answer.json()["degraded"]) == (200, [])
        return str(answer.json()["version"])

    def proofs(self) -> list[int]:
        """Return the processes that try bundles."""
        own = children(self.process.pid)
        server = [child for child in own if is_fork_server(child)]
        return [proof for proof in own if proof not in server] + [fork for child in server for fork in children(child)]


@pytest.fixture
def services() -> Iterator[list[ServiceProcess]]:
    """Services to be killed at the end in any case."""
    started: list[ServiceProcess] = []
    yield started
    for service in started:
        service.close()


@pytest.mark.slow
def test_bundles_that_hurt_are_refused_once_and_the_next_good_one_is_served(
    redis_server: RedisServer, tmp_path: Path, services: list[ServiceProcess]
) -> None:
    service = Published(tmp_path, redis_server.url, BUNDLES__LOAD_TIMEOUT_MS="3000", BUNDLES__DEADLINE_SHARE="1")
    services.append(service)
    service.start()
    assert service.version() == "1"
    before = service.peak_bytes()
    os.truncate(service.write(TinyModel(model="mgnm", version="2")) / CATALOGUE, 3 * 2**30)
    service.write(TinyModel(model="mgnm", version="3", trips=2**60))
    service.write(TinyModel(model="mgnm", version="4", hog=1_000_000))
    problems = {"2": "over its size limit", "3": "took longer than 3 s", "4": "memory|alloc"}
    for place, version in enumerate(problems, start=1):
        service.publish(version)
        service.until(lambda place=place: service.log().count('"bundle_refused"') == place, f"{version} refused")
        assert service.version() == "1"
    looks = service.metric("ranker_experiments_reload_total", result="not_servable")
    service.until(
        lambda: service.metric("ranker_experiments_reload_total", result="not_servable") > looks + 5, "looked again"
    )
    service.will_log('"bundle_refused"', len(problems))
    assert service.metric("ranker_bundle_load_total", result="failed") == len(problems)
    service.write(TinyModel(model="mgnm", version="5", offset=9))
    service.publish("5")
    service.until(lambda: service.version() == "5", "mended")
    assert service.peak_bytes() - before < 64 * MIB
    service.send(signal.SIGTERM)
    assert service.wait() == 0


def test_sigterm_ends_a_service_that_is_loading_an_endless_bundle(
    redis_server: RedisServer, tmp_path: Path, services: list[ServiceProcess]
) -> None:
    service = Published(tmp_path, redis_server.url, BUNDLES__LOAD_TIMEOUT_MS="600000")
    services.append(service)
    service.start()
    service.write(TinyModel(model="mgnm", version="2", trips=2**60))
    service.publish("2")
    service.until(service.proofs, "loading")
    [child] = service.proofs()
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.slow
def test_a_mended_experiment_file_does_not_wait_for_an_endless_bundle(
    redis_server: RedisServer, tmp_path: Path, services: list[ServiceProcess]
) -> None:
    service = Published(tmp_path, redis_server.url, BUNDLES__LOAD_TIMEOUT_MS="600000")
    services.append(service)
    service.start()
    service.write(TinyModel(model="mgnm", version="2", trips=2**60))
    service.write(TinyModel(model="mgnm", version="3"))
    service.publish("2")
    service.until(service.proofs, "loading")
    service.publish("3")
    service.until(lambda: service.version() == "3", "mended")


@pytest.mark.slow
def test_sigterm_ends_a_start_that_tries_an_endless_bundle(
    redis_server: RedisServer, tmp_path: Path, services: list[ServiceProcess]
) -> None:
    service = Published(tmp_path, redis_server.url, BUNDLES__LOAD_TIMEOUT_MS="600000")
    services.append(service)
    service.write(TinyModel(model="mgnm", version="2", trips=2**60))
    service.publish("2")
    service.spawn()
    service.until(service.proofs, "loading")
    service.send(signal.SIGTERM)
    assert service.wait() == 0


def test_a_bundle_with_an_item_that_has_no_score_answers_and_says_so(
    redis_server: RedisServer, tmp_path: Path, services: list[ServiceProcess]
) -> None:
    service = Published(tmp_path, redis_server.url)
    services.append(service)
    service.write(TinyModel(model="mgnm", version="2", nan_candidate=7))
    service.publish("2")
    service.start()
    answer = httpx.post(f"{service.url}/rank", json={**BODY, "candidates": ["i7", "i1", "new"], "explain": True})
    assert answer.status_code == 200
    assert answer.json()["degraded"] == ["unscored_items"]
    assert answer.json()["items"][1:] == [
        {"item_id": "i7", "score": None, "known": False}, {"item_id": "new", "score": None, "known": False},
    ]  # fmt: skip
    assert service.metric("ranker_unscored_items_total", bundle="mgnm@2") == 1


@pytest.mark.slow
def test_a_bundle_that_is_slow_for_what_users_did_is_avoided_and_the_default_answers(
    redis_server: RedisServer, tmp_path: Path, services: list[ServiceProcess]
) -> None:
    """Histories with i9 go round in a loop for minutes; the golden rows and the proof have no such history."""
    slow = TinyModel(model="pyramid_mixer", trips=2**60, slow_item=9)
    TinyModel(model="mgnm").write(tmp_path / "bundles")
    slow.write(tmp_path / "bundles")
    write_current(tmp_path / "experiments.yaml")
    limits = {"LIMITS__DEADLINE_MS": "400", "LIMITS__MAX_DEADLINE_MS": "1000"}
    service = ServiceProcess(tmp_path, redis_server.url, BUNDLES__DEADLINE_SHARE="100", **limits)
    services.append(service)
    service.start()
    with httpx.Client(base_url=service.url) as client:

        def rank(user: int) -> tuple[str, ...]:
            recent = [{"item_id": "i9", "ts": 1_700_000_000_000}]
            answer = client.post("/rank", json={**BODY, "user_id": f"u{user}", "recent": recent})
            assert "pyramid-vs-mgnm" in answer.headers["x-ab-bucket"]
            body = answer.json()
            return (body["model"], *body["degraded"]) if answer.status_code == 200 else (str(answer.status_code),)

        arms = Counter(rank(user)[0] for user in range(12))
        assert set(arms) <= {"mgnm", "pyramid_mixer", "504"}
        users = count(12)
        service.until(lambda: rank(next(users)) == ("mgnm", "bundle_slow"), "answered by the default")
        service.will_log('"bundle_slow"')
        assert client.get("/health/ready").status_code == 200
    assert service.metric("ranker_runs_ended_total", bundle="pyramid_mixer@1") >= 3
    service.send(signal.SIGTERM)
    assert service.wait() == 0
