"""A second port for operators: what each port answers, and how long; with one process, with workers, at a restart."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.processes import children
from tests.support.redis_server import RedisServer, free_port
from tests.support.service_process import PlainService, ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

BODY = {"user_id": "u1", "candidates": ["i1", "i2", "i3"]}
OPERATORS = ("/metrics", "/info", "/docs", "/openapi.json", "/", "/page/app.js", "/page/users")
PROBES = ("/health/live", "/health/ready")
SETTINGS = {"HTTP__BEHAVIOURS_ENABLED": "true", "HTTP__DOCS_ENABLED": "true", "PAGE__ENABLED": "true"}


@pytest.fixture
def service(own_redis: RedisServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service with two ports, not started."""
    service = PlainService(tmp_path, own_redis.url, ADMIN__PORT=str(free_port()), **SETTINGS)
    yield service
    service.close()


def status(url: str, path: str) -> int:
    return httpx.get(url + path, verify=False).status_code


def refuses(url: str) -> bool:
    try:
        httpx.get(f"{url}/health/live", verify=False)
    except httpx.TransportError:
        return True
    return False


@contextmanager
def half_sent(service: ServiceProcess) -> Iterator[socket.socket]:
    """Send half of a request: a drain waits for the rest."""
    with socket.create_connection(("127.0.0.1", service.port)) as caller:
        caller.sendall(b"POST /behaviours HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
        caller.sendall(b'content-length: 18\r\n\r\n{"behaviours"')
        service.until(lambda: service.metric("ranker_inflight_requests") >= 2, "half sent")  # with the question
        yield caller


def check_the_drain(service: ServiceProcess) -> None:
    """Stop a service while a request is half sent: operators are answered until the service has ended."""
    with half_sent(service) as caller:
        service.send(signal.SIGTERM)
        service.until(lambda: refuses(service.url), "closed to callers")
        assert status(service.admin_url, "/health/live") == 200
        assert status(service.admin_url, "/health/ready") == 503
        assert service.metric("ranker_requests_total", route="/rank", status="200") == 1
        caller.sendall(b": []}")
        assert b" 422 " in caller.recv(65_536)
    assert service.wait() == 0
    assert refuses(service.admin_url)


def test_callers_and_operators_have_a_port_each_and_the_second_one_outlives_the_drain(service: ServiceProcess) -> None:
    service.start()
    for path in OPERATORS:
        assert (path, status(service.url, path)) == (path, 404)
        assert (path, status(service.admin_url, path)) == (path, 200)
    for path in PROBES:
        assert (status(service.url, path), status(service.admin_url, path)) == (200, 200)
    assert httpx.post(f"{service.url}/rank", json=BODY, verify=False).status_code == 200
    assert status(service.url, "/behaviours/u1") == 200
    assert httpx.post(f"{service.admin_url}/rank", json=BODY, verify=False).status_code == 404
    assert status(service.admin_url, "/behaviours/u1") == 404
    compared = httpx.post(f"{service.admin_url}/page/compare", json={"user_id": "u1", "count": 3}, verify=False).json()
    assert compared["rank_port"] == service.port  # for the page's curl line
    assert service.metric("ranker_connections") == 1  # the one that has waited for the start; operators do not count
    check_the_drain(service)


@pytest.mark.slow
def test_workers_share_the_second_port_and_its_counts_are_those_of_all(service: ServiceProcess) -> None:
    with_workers = service.with_settings(HTTP__WORKERS="2")
    with_workers.start()
    supervisor = with_workers.process.pid
    first, second = children(supervisor)
    assert httpx.post(f"{with_workers.url}/rank", json=BODY, verify=False).status_code == 200
    for _ in range(20):
        assert status(with_workers.url, "/metrics") == 404
        assert with_workers.metric("ranker_requests_total", route="/rank", status="200") == 1
    os.kill(first, signal.SIGKILL)
    with_workers.until(lambda: len(set(children(supervisor)) - {second}) == 1, "started again")
    os.kill(second, signal.SIGTERM)  # replaced: it leaves the port before it drains
    with ready_asker(with_workers) as seen:
        with_workers.until(lambda: second not in children(supervisor), "replaced")
    assert set(seen) == {200}
    check_the_drain(with_workers)


@contextmanager
def ready_asker(service: ServiceProcess) -> Iterator[Counter[int]]:
    """Ask on the second port whether the service is ready, again and again over new connections; count the answers."""
    seen: Counter[int] = Counter()
    told = threading.Event()

    def ask() -> None:
        while not told.is_set():
            try:
                seen[status(service.admin_url, "/health/ready")] += 1
            except httpx.TransportError:
                seen[0] += 1

    asker = threading.Thread(target=ask)
    asker.start()
    yield seen
    told.set()
    asker.join()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_replaced_process_leaves_the_second_port_to_its_successor(service: ServiceProcess, workers: str) -> None:
    old = service.with_settings(HTTP__WORKERS=workers)
    old.start()
    new = old.successor()
    with half_sent(old) as caller, ready_asker(old) as seen:  # so that the old one drains until the end
        new.spawn(options=("--replace",))
        new.until(lambda: '"listening_for_operators"' in new.log(), "listening")
        old.until(lambda: '"successor_ready"' in old.log(), "succeeded")
        asked = sum(seen.values())
        new.until(lambda: sum(seen.values()) > asked + 50, "asked")
        caller.sendall(b": []}")
    assert old.wait() == 0
    assert set(seen) == {200}
    new.close()


@pytest.mark.slow
def test_a_start_during_the_drain_gets_the_second_port_too(service: ServiceProcess) -> None:
    service.start()
    new = service.successor()
    with half_sent(service) as caller:
        service.send(signal.SIGTERM)
        service.until(lambda: refuses(service.url), "closed to callers")
        new.spawn()
        new.until(lambda: '"listening_for_operators"' in new.log(), "listening")
        new.until(lambda: status(new.admin_url, "/health/ready") == 200, "ready")
        caller.sendall(b": []}")
    assert service.wait() == 0
    assert status(new.admin_url, "/health/ready") == 200
    new.close()


PASS_TWO_SOCKETS = """if True:
    import os, sys
    os.dup2(int(sys.argv[1]), 3)
    os.dup2(int(sys.argv[2]), 4)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
    os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.mark.slow
def test_the_second_socket_of_a_service_manager_is_for_operators(service: ServiceProcess) -> None:
    ports = [service.port, int(service.admin_url.rpartition(":")[2])]
    listeners = [socket.create_server(("127.0.0.1", port)) for port in ports]
    numbers = tuple(listener.fileno() for listener in listeners)
    service.spawn(None, sys.executable, "-c", PASS_TWO_SOCKETS, *map(str, numbers), descriptors=numbers)
    service.until(lambda: '"listening_for_operators"' in service.log(), "listening")
    assert (status(service.url, "/metrics"), status(service.admin_url, "/metrics")) == (404, 200)
    for listener in listeners:
        listener.close()


def test_a_second_port_that_is_taken_ends_the_start_with_its_address(service: ServiceProcess) -> None:
    port = int(service.admin_url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        assert service.refusal() == (1, f"service: cannot listen on 127.0.0.1:{port} (Address already in use)\n")


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_two_addresses_that_are_one_end_the_start_with_it(service: ServiceProcess, workers: str) -> None:
    """Neither listens while both are bound, so it is only seen when the second one is to listen."""
    port = service.port
    service.with_settings(HTTP__HOST="0.0.0.0", ADMIN__PORT=str(port), HTTP__WORKERS=workers)
    status, said = service.refusal()
    assert status == 1
    assert f"service: cannot listen on 127.0.0.1:{port} (Address already in use)\n" in said
    assert "Traceback" not in said
