"""Requests that a proxy and the service might count differently, through a real HAProxy with this repository's rules.

One request in is at most one request out: the service logs as many requests as the proxy has passed on, and none of
those that are hidden in another request's body. No answer goes to another caller.
"""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.haproxy import proxy
from tests.support.programs import needed
from tests.support.redis_server import RedisServer, free_port
from tests.support.service_process import PlainService
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx, pytest.mark.slow]

HIDDEN: Final = b"GET /hidden HTTP/1.1\r\nhost: x\r\nx-request-id: hidden\r\n\r\n"
BODY: Final = b'{"user_id":"attacker","candidates":["i1"]}'
START: Final = b"POST /rank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
CHUNKS: Final = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH: Final = b"content-length: %d\r\n" % len(BODY)
WHOLE: Final = b"content-length: %d\r\n" % len(CHUNKS + HIDDEN)
SHORT: Final = b"content-length: 4\r\n"


def te(line: bytes) -> bytes:
    """Return a request with both framings, whose header of chunks is written in an odd way."""
    return START + WHOLE + line + b"\r\n\r\n" + CHUNKS + HIDDEN


def chunks(body: bytes, *lines: bytes) -> bytes:
    return START + b"".join(lines) + b"transfer-encoding: chunked\r\n\r\n" + body


ATTACKS: Final[dict[str, bytes]] = {
    "a length and chunks": START + WHOLE + b"transfer-encoding: chunked\r\n\r\n" + CHUNKS + HIDDEN,
    "chunks and a length": START + b"transfer-encoding: chunked\r\n" + WHOLE + b"\r\n" + CHUNKS + HIDDEN,
    "a short length and chunks": START + SHORT + b"transfer-encoding: chunked\r\n\r\n" + CHUNKS + HIDDEN,
    "chunks in HTTP/1.0": te(b"transfer-encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    **{
        f"coding {line!r}": te(line)
        for line in (
            b"transfer-encoding: xchunked", b"transfer-encoding : chunked", b"transfer-encoding:\tchunked",
            b"transfer-encoding: chunked, identity", b"transfer-encoding: identity, chunked",
            b"transfer-encoding: CHUNKED", b"transfer-encoding: chunked\r\ntransfer-encoding: identity",
            b"transfer-encoding: identity",
            b"transfer-encoding: chunked\r\ntransfer-encoding: chunked", b"transfer-encoding: \x0bchunked",
            b"transfer-encoding: chunked\x00", b"transfer-encoding: 'chunked'", b"transfer-encoding: chunked;q=1",
            b"transfer-encoding:\r\n chunked", b"transfer-encoding: gzip, chunked", b"transfer_encoding: chunked",
            b"\ttransfer-encoding: chunked", b"x: y\ntransfer-encoding: chunked", b"x: y\rtransfer-encoding: chunked",
            b"transfer-encoding\r\n: chunked", b"transfer-encoding: chunked\r\n\tx", b"transfer-encoding: ",
        )
    },
    **{
        f"length {line!r}": START + line + b"\r\n\r\n" + BODY + HIDDEN
        for line in (
            LENGTH + SHORT[:-2], SHORT + LENGTH[:-2], LENGTH + LENGTH[:-2], b"content-length: %d, 4" % len(BODY),
            b"content-length: +%d" % len(BODY), b"content-length: -1", b"content-length: 0x2a", b"content-length: 4 2",
            b"content-length: %d\x00" % len(BODY), b"content-length: 042", b"content-length: 18446744073709551658",
            b"content-length : %d" % len(BODY), b"content-length:\r\n %d" % len(BODY), b"content-length: ",
            b"x: y\ncontent-length: %d" % len(BODY), b"content-length: %d\r\n\tx" % len(BODY), b"content_length: 42",
            b"connection: content-length\r\n" + LENGTH[:-2], b"connection: close, content-length\r\n" + LENGTH[:-2],
            b"expect: 100-continue\r\n" + LENGTH[:-2], LENGTH + b"upgrade: h2c\r\nconnection: upgrade",
            LENGTH + b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13",
        )
    },
    "folded header": START + b"x: 1\r\n 2\r\n" + LENGTH + b"\r\n" + BODY + HIDDEN,
    "bare LF after every line": (START + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY + HIDDEN,
    "bare LF before the body": START + LENGTH + b"\n" + BODY + HIDDEN,
    "chunk extension": chunks(b"%x;a=b\r\n%b\r\n0;c\r\n\r\n" % (len(BODY), BODY)),
    "chunk extension with a bare LF": chunks(b"%x;a\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) + HIDDEN),
    "chunk extension that hides a request": chunks(b"2;\n" + HIDDEN[:-4] + b"\r\n{}\r\n0\r\n\r\n"),
    "chunk extension in quotes": chunks(b'%x;a="\r\n%b\r\n0\r\n\r\n"\r\n' % (len(BODY), BODY) + HIDDEN),
    "chunk size with a sign": chunks(b"+%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) + HIDDEN),
    "chunk size in 0x": chunks(b"0x%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) + HIDDEN),
    "chunk size with a blank": chunks(b"%x \r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) + HIDDEN),
    "chunk size that overflows": chunks(b"1000000000000002a\r\n%b\r\n0\r\n\r\n" % BODY + HIDDEN),
    "chunk size that is negative": chunks(b"-1\r\n%b\r\n0\r\n\r\n" % BODY + HIDDEN),
    "chunk without its end": chunks(b"%x\r\n%b0\r\n\r\n" % (len(BODY), BODY) + HIDDEN),
    "chunks with bare LF": chunks(CHUNKS.replace(b"\r\n", b"\n") + HIDDEN),
    "last chunk of many zeros": chunks(b"%x\r\n%b\r\n0000000000000000000\r\n\r\n" % (len(BODY), BODY)),
    "trailers": chunks(CHUNKS[:-2] + b"content-length: 500\r\ntransfer-encoding: chunked\r\nhost: y\r\n\r\n"),
    "trailer that is folded": chunks(CHUNKS[:-2] + b"x: 1\r\n y\r\n\r\n" + HIDDEN),
    "a hidden request in a body": START + b"content-length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a hidden request in chunks": chunks(b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    "a body of GET": b"GET /info HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a body of HEAD": b"HEAD /rank HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a body of TRACE": b"TRACE /rank HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a path with a line end": b"POST /rank\r\nx: y HTTP/1.1\r\nhost: x\r\n\r\n" + HIDDEN,
    "a host with a blank": (START + LENGTH + b"\r\n" + BODY).replace(b"host: x", b"host: x y") + HIDDEN,
    "two hosts": (START + LENGTH + b"\r\n" + BODY).replace(b"host: x", b"host: x\r\nhost: y") + HIDDEN,
    "absolute form": (START + LENGTH + b"\r\n" + BODY).replace(b"/rank", b"http://y/rank", 1),
    "a request without a version": b"POST /rank\r\n" + LENGTH + b"\r\n" + BODY + HIDDEN,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
}  # fmt: skip


class Lax(socketserver.ThreadingTCPServer):
    """A server that knows no chunks: it takes them for further requests."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        self.count = 0
        super().__init__(("127.0.0.1", 0), LaxConnection)


class LaxConnection(socketserver.StreamRequestHandler):
    """Answers everything that has an empty line after it."""

    server: Lax

    def handle(self) -> None:
        with suppress(ConnectionError):
            self._answer_all()

    def _answer_all(self) -> None:
        while first := self.rfile.readline():
            head = list(iter(self.rfile.readline, b"\r\n"))
            if b"" in head[-1:]:
                return
            lengths = [int(line[15:]) for line in head if line.lower().startswith(b"content-length:")]
            self.rfile.read(sum(lengths))
            self.server.count += b"/health/" not in first
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


class Rig:
    """Something behind a proxy that logs every request."""

    def __init__(self, folder: Path, port: int, served: Callable[[], float]) -> None:
        self.port, self.served, self._log = port, served, folder / "haproxy.log"
        self._began = 0
        wait_until(lambda: self.passed_on() > 0)
        self._began = self.passed_on()  # the question whether it is ready
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}")
        self._asked = 0

    def passed_on(self) -> int:
        """Return how many requests the proxy has given to a replica."""
        lines = self._log.read_text(errors="replace")
        return len(re.findall(r" (?:replicas|last_resort)/(?:one|two) ", lines)) - self._began

    def passed_when(self, least: float) -> int:
        """Wait until the proxy has logged so many, which it does a moment after the answer; return how many it has."""
        with suppress(AssertionError):
            wait_until(lambda: self.passed_on() >= least)
        return self.passed_on()

    def send(self, data: bytes) -> bytes:
        """Send bytes over a connection of their own, and nothing more; return all answers."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while piece := _received(connection):
                received += piece
        return received

    def ask_well(self) -> None:
        """Rank over the kept connection of a good caller, who must get the answer to this ranking and no other."""
        self._asked += 1
        request_id, items = f"good-{self._asked}", [f"i{1 + self._asked % 19}", f"new-{self._asked}"]
        asked = {"user_id": "good", "candidates": items}
        answer = self._client.post("/rank", json=asked, headers={"x-request-id": request_id})
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-request-id"] == answer.json()["request_id"] == request_id
        assert sorted(item["item_id"] for item in answer.json()["items"]) == sorted(items)

    def close(self) -> None:
        self._client.close()


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except ConnectionError:
        return b""


def answered(service: PlainService) -> float:
    """Return how many requests the service has answered or refused, health checks and scrapes aside."""
    lines = httpx.get(f"{service.admin_url}/metrics").text.splitlines()
    counted = [line for line in lines if line.startswith("ranker_requests_total{")]
    others = [line for line in counted if 'route="/health/' not in line and 'route="/metrics"' not in line]
    return sum(float(line.rpartition(" ")[2]) for line in others)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    needed("haproxy", "haproxy")
    redis, folder = RedisServer().start(), tmp_path_factory.mktemp("smuggling")
    service = PlainService(folder, redis.url, ADMIN__PORT=str(free_port()))
    try:
        service.start()
        with proxy(service.port, service.port, folder, logs=True) as port:
            made = Rig(folder, port, lambda: answered(service))
            yield made
            made.close()
    finally:
        service.close()
        redis.close()


def test_the_service_counts_the_requests_that_the_proxy_counts_and_good_callers_get_their_own_answers(rig: Rig) -> None:
    rig.ask_well()
    statuses = Counter[bytes]()
    for name, attack in ATTACKS.items():
        before = rig.passed_on()
        answers = rig.send(attack)
        found = re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)
        statuses.update(found)
        assert b" 500 " not in answers, name
        assert b"good-" not in answers, name
        for _ in range(3):
            rig.ask_well()
        served = rig.served()
        passed = rig.passed_when(max(served, before + 3))
        assert served == passed, f"{name}: {served} served, {passed} passed on; {answers!r}"
    assert {b"200", b"400"} <= set(statuses), statuses


@pytest.mark.parametrize("name", ["a hidden request in chunks", "chunk extension"])
def test_a_server_that_knows_no_chunks_is_found_out(tmp_path: Path, name: str) -> None:
    needed("haproxy", "haproxy")
    with Lax() as lax:
        thread = threading.Thread(target=lax.serve_forever)
        thread.start()
        try:
            with proxy(lax.server_address[1], lax.server_address[1], tmp_path, logs=True) as port:
                rig = Rig(tmp_path, port, lambda: lax.count)
                rig.send(ATTACKS[name])
                wait_until(lambda: rig.served() > 1)
                assert rig.passed_on() == 1
                rig.close()
        finally:
            lax.shutdown()
            thread.join()
