"""The real service exposes its held-out users, and as many others, beside what it exposed before."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx
import pytest
import redis as driver
import yaml

from contract.events.streams import EXPOSURE_STREAM, RANKING_STREAM
from contract.experiments.buckets import bucket
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]


@pytest.mark.slow
def test_held_out_users_and_an_equal_slice_are_exposed_and_logged(own_redis: RedisServer, tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path, own_redis.url, RANKING_LOG__SHARE="1")
    document = yaml.safe_load(service.experiments.read_text())
    document["holdout"] = {"salt": "held", "buckets": [[0, 2_000]]}
    service.experiments.write_text(yaml.safe_dump(document))
    try:
        service.start()
        places = {f"u{number}": bucket("held", "holdout", f"u{number}") for number in range(150)}
        for user, place in places.items():
            for _ in range(2):
                answer = httpx.post(f"{service.url}/rank", json={"user_id": user, "candidates": ["i1"]}, timeout=20)
                assert answer.status_code == 200
                assert ("r=holdout" in answer.headers["x-ab-bucket"]) == (place < 2_000)
                assert "_holdout" not in answer.headers["x-ab-bucket"]
        service.send(signal.SIGTERM)
        assert service.wait() == 0
    finally:
        service.close()
    with driver.Redis(unix_socket_path=str(own_redis.socket)) as client:
        exposures, rankings = (
            [json.loads(fields[b"event"]) for _, fields in client.xrange(name)]  # type: ignore[union-attr]
            for name in (EXPOSURE_STREAM, RANKING_STREAM)
        )
    arms = {user: "held_out" if place < 2_000 else "measured" for user, place in places.items() if place < 4_000}
    assert {"held_out", "measured"} == set(arms.values())
    holdout = [one for one in exposures if one["exp"] == "_holdout"]
    assert sorted((one["unit"], one["arm"]) for one in holdout) == sorted(arms.items())
    others = {one["unit"] for one in exposures if one["exp"] == "pyramid-vs-mgnm"}
    assert others == {user for user, place in places.items() if place >= 2_000}
    logged = {one["unit"]: {arm["exp"]: arm["arm"] for arm in one["arms"]} for one in rankings}
    assert {user: own["_holdout"] for user, own in logged.items() if "_holdout" in own} == arms
