"""Slow and idle connections on the port of operators: probes, scrapes and rankings are answered, and they end."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.faults.rows.transport import attack
from tests.support.redis_server import RedisServer, free_port
from tests.support.service_process import PlainService
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx, pytest.mark.slow]

COUNT = 300  # more than twice the connections that the port takes
ROUNDS = 10
RANKING = {"user_id": "u1", "candidates": ["i1", "i2", "i3"]}
LONG = b"host: x\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{"
ATTACKS = {
    "headers a byte at a time": (b"GET /metrics HTTP/1.1\r\nhost: x\r\nx-slow: ", True),
    "a body a byte at a time": (b"POST /page/history HTTP/1.1\r\n" + LONG, True),
    "a body that is refused, a byte at a time": (b"POST /metrics HTTP/1.1\r\n" + LONG, True),
    "nothing": (b"", False),
    "one request, then nothing": (b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n", False),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainService]:
    redis, folder = RedisServer().start(), tmp_path_factory.mktemp("service")
    service = PlainService(
        folder, redis.url, ADMIN__PORT=str(free_port()), PAGE__ENABLED="true", HTTP__HEADER_TIMEOUT_MS="2000",
        HTTP__BODY_TIMEOUT_MS="2000", HTTP__KEEP_ALIVE_MS="2000",
    )  # fmt: skip
    yield service.start()
    service.close()
    redis.close()


def status(url: str, path: str) -> int:
    """Ask over a connection of its own, as a kubelet does."""
    return httpx.get(url + path, verify=False).status_code


@pytest.mark.parametrize("name", ATTACKS)
def test_the_port_of_operators_answers_beside_slow_connections_and_ends_all_of_them(
    service: PlainService, name: str
) -> None:
    beginning, trickles = ATTACKS[name]
    admin = int(service.admin_url.rpartition(":")[2])
    with attack(admin, COUNT, beginning, trickles=trickles) as attackers:
        wait_until(lambda: len(attackers.closed_after) >= COUNT // 4)  # the port is full
        for _ in range(ROUNDS):
            found = {path: status(service.admin_url, path) for path in ("/health/live", "/health/ready", "/metrics")}
            assert set(found.values()) == {200}, found
            assert status(service.url, "/health/ready") == 200
            assert httpx.post(f"{service.url}/rank", json=RANKING, verify=False).status_code == 200
        wait_until(lambda: len(attackers.closed_after) == COUNT)
    assert service.metric("ranker_connections_refused_total", reason="too_many") >= COUNT - 128


def test_connections_that_are_opened_again_at_once_do_not_keep_out_a_probe(service: PlainService) -> None:
    admin = int(service.admin_url.rpartition(":")[2])
    for _ in range(5):
        with attack(admin, COUNT, b"", trickles=False):
            assert status(service.admin_url, "/health/live") == 200
            assert status(service.admin_url, "/metrics") == 200
