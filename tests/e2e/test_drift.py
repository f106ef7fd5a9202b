"""Rankings of other candidates and other histories than before raise the index of the real service."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from math import log
from pathlib import Path

import httpx
import pytest

from service.inference.drift import RATE
from tests.support.redis_server import RedisServer
from tests.support.service_process import PlainService

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx, pytest.mark.slow]

NOW = 1_700_000_000_000
BUNDLE = {"bundle": "mgnm@1"}
GOLDEN = ["i1", "i2", "i3"]  # the golden candidates of a TinyModel; its histories are none, and these three items
HIGH = ["i19", "i20", "never-seen"]


@pytest.fixture
def service(own_redis: RedisServer, tmp_path: Path) -> Iterator[PlainService]:
    one = PlainService(tmp_path, own_redis.url)
    one.start()
    yield one
    one.close()


def rank(service: PlainService, candidates: Sequence[str], rankings: int, histories: Sequence[int]) -> None:
    """Rank for users with histories of these lengths in turn, each an hour old; slowly enough that all are counted."""
    with httpx.Client(base_url=service.url) as client:
        for number in range(rankings):
            length = histories[number % len(histories)]
            recent = [{"item_id": f"i{place}", "ts": NOW - 3_700_000 + place} for place in range(1, length + 1)]
            body = {"user_id": f"u{number}", "candidates": candidates, "request_time": NOW, "recent": recent}
            assert client.post("/rank", json=body).status_code == 200
            time.sleep(1 / RATE)


def index(service: PlainService, of: str) -> float:
    return service.metric("ranker_drift_psi", **BUNDLE, of=of, reference="golden")


def counted(service: PlainService, name: str, **labels: str) -> float:
    return service.metric(f"ranker_drift_{name}", **BUNDLE, **labels)


def test_shifted_traffic_raises_the_index_and_unknown_items_are_counted(service: PlainService) -> None:
    rank(service, GOLDEN, 300, histories=[0, 3])
    assert (index(service, "score"), index(service, "length")) == pytest.approx((0, 0), abs=0.01)
    rank(service, HIGH, 300, histories=[1])
    assert index(service, "score") > 0.5
    # A quarter of the rankings has no behaviour, a quarter 3, and half 1, which neither of the two golden rows has:
    # its share is taken to be half a row.
    shifted = 2 * (0.25 - 0.5) * log(0.25 / 0.5) + (0.5 - 0.25) * log(0.5 / 0.25)
    assert index(service, "length") == pytest.approx(shifted, rel=0.01)
    assert counted(service, "items_total", kind="candidate", known="no") == 300
    assert counted(service, "items_total", kind="candidate", known="yes") == 300 * 3 + 300 * 2
    assert counted(service, "observations_total", of="age", up_to="21600") == 150 + 300
    assert counted(service, "observations_total", of="length", up_to="0") == 150
    assert counted(service, "reference_share", of="score") == pytest.approx(1)
    assert counted(service, "psi", reference="earlier") == 0  # not there: 10 minutes have not passed
