"""A ranking leaves nothing behind: no reference cycles for the collector, and no memory."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer
from tests.support.service_process import PlainService, ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx, pytest.mark.slow, pytest.mark.timeout(300)]

USERS = 1_000
WARM_UP, MEASURED = 5_000, 25_000
MIB = 2**20


@pytest.fixture
def service(own_redis: RedisServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    service = PlainService(tmp_path, own_redis.url).start()
    yield service
    service.close()


def rank(connection: http.client.HTTPConnection, start: int, count: int) -> None:
    """Send rankings over one connection, each user's again and again."""
    for number in range(start, start + count):
        body = json.dumps({"user_id": f"u{number % USERS}", "candidates": [f"i{item}" for item in range(1, 9)]})
        connection.request("POST", "/rank", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200


def test_a_ranking_makes_no_cycles_and_keeps_no_memory(service: ServiceProcess) -> None:
    """One cycle for each ranking would be more objects than a young collection waits for."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    rank(connection, 0, WARM_UP)
    cycles = service.metric("python_gc_objects_collected_total")
    memory = service.metric("process_resident_memory_bytes")
    rank(connection, WARM_UP, MEASURED)
    connection.close()
    assert service.metric("python_gc_objects_collected_total") - cycles < MEASURED / 10
    assert service.metric("process_resident_memory_bytes") - memory < 12 * MIB
    assert service.metric("ranker_gc_pause_seconds_count", generation="2") < 3  # the start's, and no other
