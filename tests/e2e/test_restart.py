"""A restart on one machine refuses no one: the successor gets the listening socket of the process before it."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.callers import Callers
from tests.support.redis_server import RedisServer
from tests.support.service_process import PlainService, ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

BODY = {"user_id": "u1", "candidates": ["i1", "i2", "i3"]}

# A busy machine takes long to start a successor: the old process must still accept when it is ready, and then leaves.
SETTINGS = {"HTTP__DRAIN_DELAY_MS": "60000", "LIMITS__MAX_INFLIGHT": "1000"}


@pytest.fixture
def first(own_redis: RedisServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    service = PlainService(tmp_path, own_redis.url, **SETTINGS)
    yield service.start()
    service.close()


@pytest.fixture
def second(first: ServiceProcess) -> Iterator[ServiceProcess]:
    service = first.successor()
    yield service
    service.close()


def is_listening(service: ServiceProcess) -> bool:
    return '"listening"' in service.log()


def replaced(old: ServiceProcess, new: ServiceProcess) -> None:
    """Start a successor next to a process that serves."""
    new.spawn(options=("--replace",))
    new.until(lambda: is_listening(new), "listening")


def stopped_and_started(old: ServiceProcess, new: ServiceProcess) -> None:
    """Stop a process, and start another one at once."""
    old.send(signal.SIGTERM)
    old.until(lambda: "draining" in old.log(), "draining")
    new.spawn()
    new.until(lambda: is_listening(new), "listening")


Restart = Callable[[ServiceProcess, ServiceProcess], None]


@pytest.mark.slow
@pytest.mark.parametrize("restart", [replaced, stopped_and_started])
def test_a_restart_under_load_answers_every_request(
    first: ServiceProcess, second: ServiceProcess, restart: Restart
) -> None:
    callers = Callers(first.port, rate=50)
    callers.start()
    first.until(lambda: first.metric("ranker_requests_total", route="/rank") > 20, "busy")
    restart(first, second)
    assert first.wait() == 0
    second.until(lambda: second.metric("ranker_requests_total", route="/rank") > 20, "busy")
    assert set(callers.stop()) == {"200"}
    first.will_log('"successor_ready"')
    assert '"abandoned"' not in first.log()


@pytest.mark.slow
@pytest.mark.parametrize("rate", [25, 200])
@pytest.mark.parametrize("restart", [replaced, stopped_and_started])
def test_many_restarts_under_load_answer_every_request(first: ServiceProcess, restart: Restart, rate: int) -> None:
    callers = Callers(first.port, rate)
    callers.start()
    old = first
    for _ in range(5):
        new = old.successor()
        restart(old, new)
        assert old.wait() == 0
        old = new
    seen = callers.stop()
    old.close()
    print(f"{restart.__name__}, {rate} requests/s, 5 restarts: {dict(seen)}")
    assert set(seen) == {"200"}


def test_a_second_copy_started_by_mistake_is_refused_and_told_who_serves(
    first: ServiceProcess, second: ServiceProcess
) -> None:
    status, said = second.refusal()
    assert status == 1
    assert said == (
        f"service: cannot listen on 127.0.0.1:{first.port} (Address already in use: process {first.process.pid} serves "
        "there; stop it first, or take over with --replace)\n"
    )
    assert httpx.post(f"{first.url}/rank", json=BODY, verify=False).status_code == 200


@pytest.mark.slow
def test_a_successor_that_dies_while_it_loads_changes_nothing_and_the_next_one_can_take_over(
    first: ServiceProcess, second: ServiceProcess
) -> None:
    second.spawn(options=("--replace",))
    first.until(lambda: '"successor_loads"' in first.log(), "handed over")
    second.process.kill()
    second.wait()
    first.until(lambda: '"successor_lost"' in first.log(), "lost")
    assert httpx.post(f"{first.url}/rank", json=BODY, verify=False).status_code == 200
    assert httpx.get(f"{first.url}/health/ready", verify=False).status_code == 200
    replaced(first, second)
    assert first.wait() == 0
    assert httpx.post(f"{second.url}/rank", json=BODY, verify=False).status_code == 200


@pytest.mark.slow
def test_without_a_predecessor_replace_is_an_ordinary_start(first: ServiceProcess, second: ServiceProcess) -> None:
    first.send(signal.SIGINT)
    assert first.wait() == 0
    replaced(first, second)
    assert httpx.get(f"{second.url}/health/ready", verify=False).status_code == 200


PASS_A_SOCKET = """if True:
    import os, sys
    os.dup2(int(sys.argv[1]), 3)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.slow
def test_with_a_socket_of_the_service_managers_a_stop_and_a_start_refuse_no_one(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        port = listener.getsockname()[1]
        service = PlainService(tmp_path, own_redis.url, HTTP__PORT=str(port), LIMITS__MAX_INFLIGHT="1000")
        callers = Callers(port, rate=50)
        for turn in range(2):
            number = listener.fileno()
            service.spawn(None, sys.executable, "-c", PASS_A_SOCKET, str(number), descriptors=(number,))
            service.until(lambda: is_listening(service), "listening")
            if not turn:
                callers.start()
            service.until(lambda: service.metric("ranker_requests_total", route="/rank") > 20, "busy")
            if not turn:
                service.send(signal.SIGTERM)
                assert service.wait() == 0
        assert set(callers.stop()) == {"200"}
        service.close()
