"""Two arms on one bundle weigh its targets in two ways, and get two orders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as driver
import yaml

from contract.events.streams import EXPOSURE_STREAM
from tests.support.builders import TinyModel
from tests.support.redis_server import RedisServer
from tests.support.service_process import PlainService

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

MODEL = TinyModel(model="mgnm", version="2", targets=True, slope=50.0)  # the order of items is that of their bias
CANDIDATES = ["i7", "i1", "i20", "i12"]
BY_CLICK = ["i20", "i12", "i7", "i1"]
USERS = [f"u{number}" for number in range(24)]


def publish(service: PlainService, **weights: object) -> None:
    document = yaml.safe_load(service.experiments.read_text(encoding="utf-8"))
    document["layers"][0]["defaults"] = {"model": "mgnm", "version": "2", "targets": {}}
    document["layers"][0]["experiments"] = document["layers"][0]["experiments"][:1]
    for arm in document["layers"][0]["experiments"][0]["arms"]:
        arm["params"] = {} if arm["key"] == "control" else {"targets": weights}
    service.experiments.write_text(yaml.safe_dump(document), encoding="utf-8")


@pytest.fixture
def service(own_redis: RedisServer, tmp_path: Path) -> Iterator[PlainService]:
    one = PlainService(tmp_path, own_redis.url, EXPERIMENTS__RELOAD_MS="100")
    MODEL.write(one.bundles)
    yield one
    one.close()


def rank(service: PlainService, user: str, **body: object) -> tuple[str, dict[str, Any]]:
    request = {"user_id": user, "candidates": CANDIDATES, **body}
    answer = httpx.post(f"{service.url}/rank", json=request, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-ab-bucket"].split(";")[0].rpartition(":")[2], answer.json()


def test_two_arms_of_one_bundle_order_by_their_own_weights(service: PlainService, own_redis: RedisServer) -> None:
    publish(service, click=0.0, like=4.0)
    service.start()
    orders = {"control": BY_CLICK, "treatment": BY_CLICK[::-1]}
    arms = set()
    for user in USERS:
        arm, body = rank(service, user, explain=True)
        arms.add(arm)
        assert (body["model"], body["version"], body["degraded"]) == ("mgnm", "2", [])
        assert [item["item_id"] for item in body["items"]] == orders[arm]
        assert body["parameters"]["targets"] == {"control": "", "treatment": "click=0.0,like=4.0"}[arm]
        shown = body["explanation"]["items"]
        by_click, by_like = {"control": (1.0, 0.0), "treatment": (0.0, 4.0)}[arm]
        pairs = zip(shown["click"], shown["like"], strict=True)
        expected = [by_click * click + by_like * like for click, like in pairs]
        assert [item["score"] for item in body["items"]] == pytest.approx(expected, abs=1e-4)
    assert arms == {"control", "treatment"}
    with driver.Redis(unix_socket_path=str(own_redis.socket)) as client:
        service.until(lambda: client.xlen(EXPOSURE_STREAM) >= len(USERS), "exposures written")
        events = [json.loads(fields[b"event"]) for _, fields in client.xrange(EXPOSURE_STREAM)]  # type: ignore[union-attr]
    assert {event["arm"] for event in events} == {"control", "treatment"}


def test_a_start_with_a_weight_of_a_target_that_the_bundle_lacks_is_refused(service: PlainService) -> None:
    publish(service, share=4.0)
    status, output = service.refusal()
    assert status != 0
    problem = "param targets: mgnm@2 has no target share; there are click, like"
    assert f"rank.pyramid-vs-mgnm:treatment: {problem}" in output
