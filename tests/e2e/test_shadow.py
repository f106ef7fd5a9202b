"""Two real bundles, one of them as the shadow of the other's arm: compared, frozen, killed; no answer changes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.events.streams import EXPOSURE_STREAM
from tests.support.builders import TinyModel
from tests.support.redis_server import RedisServer
from tests.support.service_process import PlainService
from tests.support.streams import stream

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx, pytest.mark.slow]

CANDIDATES = [f"i{place}" for place in range(1, 21)]
PAIR = {"served": "mgnm@1", "shadow": "falling@1"}
SHADOW = TinyModel(model="falling", slope=-50.0, offset=3.0, items=15)  # the opposite order, of fewer items


def publish(service: PlainService, share: float | None) -> None:
    """Give the control and everyone without an arm a shadow; the treatment has none."""
    document = yaml.safe_load(service.experiments.read_text(encoding="utf-8"))
    layer = document["layers"][0]
    layer["experiments"] = layer["experiments"][:1]
    layer["experiments"][0]["slots"] = [[0, 10_000]]
    layer.pop("shadow", None)
    layer["experiments"][0]["arms"][0].pop("shadow", None)
    if share is not None:
        layer["shadow"] = {"model": "falling", "share": share}
        layer["experiments"][0]["arms"][0]["shadow"] = {"model": "falling", "version": "1", "share": share}
    service.experiments.write_text(yaml.safe_dump(document), encoding="utf-8")


@pytest.fixture
def service(own_redis: RedisServer, tmp_path: Path) -> Iterator[PlainService]:
    one = PlainService(
        tmp_path, own_redis.url, EXPERIMENTS__RELOAD_MS="100", SHADOW__QUEUE="4", SHADOW__DEADLINE_MS="20000"
    )
    SHADOW.write(one.bundles)
    yield one
    one.close()


def rank(service: PlainService, user: str, request_id: str) -> tuple[str, dict[str, Any]]:
    """Rank on the short way, as nearly all callers do: httpx sends `Connection`, which goes the long way."""
    body = json.dumps({"user_id": user, "candidates": CANDIDATES, "request_time": 1_700_000_000_000})
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", "/rank", body, {"content-type": "application/json", "x-request-id": request_id})
        answer = connection.getresponse()
        content = answer.read()
    assert answer.status == 200, content
    return answer.headers["x-ab-bucket"].split(";")[0].rpartition(":")[2], json.loads(content)


def compared(service: PlainService) -> float:
    return service.metric("ranker_shadow_rankings_total", **PAIR)


def process_ids(service: PlainService) -> list[int]:
    lines = [json.loads(line) for line in service.log().splitlines() if '"shadow_started"' in line]
    return [line["process_id"] for line in lines]


def test_a_shadow_scores_the_rankings_of_its_arm_and_changes_no_answer(
    service: PlainService, own_redis: RedisServer
) -> None:
    publish(service, None)
    service.start()
    users = [f"u{number}" for number in range(12)]
    plain = [rank(service, user, f"plain-{user}") for user in users]
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    own_redis.call("FLUSHALL")

    publish(service, 1.0)
    service.start()
    arms = []
    for user, (arm, answer) in zip(users, plain, strict=True):
        found = rank(service, user, f"plain-{user}")
        assert found == (arm, answer)
        arms.append(arm)
        wanted = arms.count("control")
        service.until(lambda: compared(service) == wanted, "compared")  # noqa: B023 - called at once
    assert 0 < arms.count("control") < len(arms)
    count = service.metric("ranker_shadow_rank_distance_count", **PAIR)
    total = service.metric("ranker_shadow_rank_distance_sum", **PAIR)
    assert count == arms.count("control")
    assert total / count > 1.99  # falling against rising
    assert service.metric("ranker_shadow_score_difference_count", **PAIR) == count * SHADOW.items
    # of the best 10 of 15 items in opposite orders, the middle 5 are the same
    assert service.metric("ranker_shadow_overlap_sum", **PAIR) == pytest.approx(0.5 * count)
    for side in ("served", "shadow"):
        assert service.metric("ranker_shadow_duration_seconds_count", **PAIR, side=side) == count
    assert service.metric("ranker_shadow_dropped_total") == service.metric("ranker_shadow_failures_total") == 0
    [process_id] = process_ids(service)
    assert os.getpriority(os.PRIO_PROCESS, process_id) == 19
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    exposures = stream(own_redis, EXPOSURE_STREAM)
    assert sorted((one["unit"], one["arm"], one["served_model"]) for one in exposures) == sorted(
        (user, arm, "mgnm") for user, arm in zip(users, arms, strict=True)
    )


def test_a_frozen_shadow_holds_up_no_answer_and_a_killed_one_is_started_again(service: PlainService) -> None:
    publish(service, 1.0)
    service.start()
    users = [user for user in (f"u{number}" for number in range(80)) if rank(service, user, "x")[0] == "control"][:30]
    service.until(lambda: compared(service) > 0, "compared")
    service.until(lambda: process_ids(service), "started")
    [frozen] = process_ids(service)
    os.kill(frozen, signal.SIGSTOP)
    before = service.metric("ranker_shadow_dropped_total", **PAIR, reason="full")
    for number, user in enumerate(users):  # far more than the queue's 4 and a batch's 8; all are answered meanwhile
        assert rank(service, user, f"frozen-{number}")[1]["degraded"] == []
    dropped = service.metric("ranker_shadow_dropped_total", **PAIR, reason="full") - before
    assert dropped >= len(users) - 12
    known = compared(service)
    assert os.getpgid(frozen) == frozen  # it is frozen still, and was not ended meanwhile
    assert service.metric("ranker_shadow_failures_total", **PAIR) == 0

    os.kill(frozen, signal.SIGKILL)
    service.until(lambda: service.metric("ranker_shadow_failures_total", **PAIR) > 0, "counted")
    service.until(lambda: rank(service, users[0], "y") and len(process_ids(service)) == 2, "started again")
    service.until(lambda: compared(service) > known, "compared again")

    publish(service, None)
    again = process_ids(service)[1]
    service.until(lambda: not Path(f"/proc/{again}").exists(), "ended when no file names it")
    assert rank(service, users[0], "z")[1]["degraded"] == []
