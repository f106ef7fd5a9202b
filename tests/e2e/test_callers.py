"""Callers who hang up, read slowly, flood a route or meet a process that was stopped; over real sockets."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.redis_server import RedisServer
from tests.support.service_process import PlainService, ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

BODY = {"user_id": "u1", "candidates": ["i1", "i2", "i3"]}


def raw(body: object, *lines: str, path: str = "/rank") -> bytes:
    data = json.dumps(body).encode()
    head = ["content-type: application/json", f"content-length: {len(data)}", *lines]
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: x", *head, "", ""]).encode() + data


def ask(port: int, request: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(request)
    return connection


def answer(connection: socket.socket) -> int:
    """Read a whole answer, and return its status."""
    with connection.makefile("rb") as lines:
        first = lines.readline()
        head = list(iter(lines.readline, b"\r\n"))
        lines.read(next(int(line.split(b":")[1]) for line in head if line.startswith(b"content-length")))
    return int(first.split()[1])


def last_answer(connection: socket.socket) -> int:
    with connection:
        return answer(connection)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture
def service(redis: RedisServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    process = PlainService(tmp_path, redis.url, HTTP__DOCS_ENABLED="true")
    yield process.start()
    process.close()


@pytest.fixture
def hasty(redis: RedisServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service that refuses what has waited for two seconds."""
    process = PlainService(tmp_path, redis.url, LIMITS__DEADLINE_MS="2000", LIMITS__MAX_DEADLINE_MS="60000")
    yield process.start()
    process.close()


@pytest.mark.slow
def test_what_waited_while_the_process_was_stopped_is_refused_unscored_and_the_rest_is_served(
    hasty: ServiceProcess,
) -> None:
    kept = [ask(hasty.port, raw(BODY)) for _ in range(5)]  # connections that the process has accepted before
    for connection in kept:
        assert answer(connection) == 200
    rows = hasty.metric("ranker_batch_rows_sum", bundle="mgnm@1") + hasty.metric(
        "ranker_batch_rows_sum", bundle="pyramid_mixer@1"
    )
    hasty.send(signal.SIGSTOP)
    try:
        new = [ask(hasty.port, raw(BODY)) for _ in range(20)]
        for connection in kept:
            connection.sendall(raw(BODY))
        patient = [ask(hasty.port, raw(BODY, "x-deadline-ms: 60000")) for _ in range(3)]
        subprocess.run([sys.executable, "-c", "import time; time.sleep(2.5)"], check=True)  # longer than the deadline
        fresh = [ask(hasty.port, raw(BODY)) for _ in range(3)]
    finally:
        hasty.send(signal.SIGCONT)
    assert [last_answer(connection) for connection in [*new, *kept]] == [504] * 25
    assert [last_answer(connection) for connection in [*patient, *fresh]] == [200] * 6
    assert hasty.metric("ranker_rejected_total", reason="deadline_exceeded") == 25
    scored = hasty.metric("ranker_batch_rows_sum", bundle="mgnm@1") + hasty.metric(
        "ranker_batch_rows_sum", bundle="pyramid_mixer@1"
    )
    assert scored - rows == 6


@pytest.mark.slow
def test_four_hundred_callers_who_hang_up_are_counted_as_499_and_nothing_else(
    redis: RedisServer, service: ServiceProcess
) -> None:
    before = service.metric("ranker_requests_total", route="/rank")
    redis.freeze()  # so that none of them is answered before it has hung up
    try:
        for _ in range(400):
            ask(service.port, raw(BODY)).close()
        service.until(
            lambda: service.metric("ranker_requests_total", route="/rank") == before + 400, "all of them counted"
        )
    finally:
        redis.thaw()
    assert service.metric("ranker_requests_total", route="/rank", status="499") == 400
    assert service.metric("ranker_rejected_total") == 0
    assert service.metric("ranker_requests_total", status="503") == 0
    service.will_log('"status":499', 400)
    lines = [json.loads(line) for line in service.log().splitlines()]
    assert Counter(line["status"] for line in lines if line.get("route") == "/rank")[499] == 400
    assert httpx.post(f"{service.url}/rank", json=BODY).status_code == 200


def test_a_caller_who_has_finished_sending_gets_his_answer(service: ServiceProcess) -> None:
    for request, expected in ((raw(BODY), 200), (b"GET /info HTTP/1.0\r\n\r\n", 200), (b"GARBAGE\r\n\r\n", 400)):
        connection = ask(service.port, request)
        connection.shutdown(socket.SHUT_WR)
        assert last_answer(connection) == expected


@pytest.mark.slow
def test_slow_readers_of_large_answers_do_not_take_the_places_of_good_neighbours(service: ServiceProcess) -> None:
    large = raw({"user_id": "u1", "candidates": [f"i{n}-{'x' * 50}" for n in range(2_000)], "explain": True})
    slow = []
    for _ in range(96):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", service.port))
        connection.settimeout(30)
        slow.append(connection)

    def send(connection: socket.socket) -> None:
        try:
            for _ in range(30):
                connection.sendall(large)
        except OSError:  # cut off, or closed below
            pass

    senders = [threading.Thread(target=send, args=(connection,)) for connection in slow]
    for sender in senders:
        sender.start()
    service.until(lambda: service.metric("ranker_requests_total", route="/rank") >= 96, "the slow readers served once")
    with httpx.Client(base_url=service.url, timeout=30) as client:
        answers = Counter(client.post("/rank", json=BODY).status_code for _ in range(50))
    for connection in slow:
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    for sender in senders:
        sender.join(30)
    assert answers == {200: 50}
    service.until(lambda: service.metric("ranker_inflight_requests") == 1, "all of them gone")  # the scrape itself


FLOODS = {
    "behaviours": raw(
        {
            "behaviours": [
                {"user_id": f"g{n % 500}", "item_id": str(n), "ts": 1_700_000_000_000 + n} for n in range(1_000)
            ]
        },
        path="/behaviours",
    ),
    "metrics": b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n",
    "documents": b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n",
    "refused bodies": raw({"user_id": "u1", "candidates": [1] * 100_000}),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "behaviours" else pytest.mark.slow) for name in FLOODS]
)
def test_a_flood_of_another_route_leaves_rankings_whole(service: ServiceProcess, name: str) -> None:
    """How fast they stay is measured by benchmarks/load/greedy.py; here none may be refused, late or degraded."""
    stop = threading.Event()

    def flood() -> None:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            method, path = FLOODS[name].split(b" ")[:2]
            content = FLOODS[name].partition(b"\r\n\r\n")[2]
            while not stop.is_set():
                headers = {"content-type": "application/json"}
                client.request(method.decode(), path.decode(), content=content, headers=headers)

    with ThreadPoolExecutor(16) as pool:
        flooding = [pool.submit(flood) for _ in range(16)]
        with httpx.Client(base_url=service.url, timeout=60) as client:
            answers = [client.post("/rank", json=BODY) for _ in range(20)]
        stop.set()
        for one in flooding:
            one.result()
    assert {answer.status_code for answer in answers} == {200}
    assert [answer.json()["degraded"] for answer in answers] == [[]] * 20
