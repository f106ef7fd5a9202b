"""Slow, hostile and numerous connections beside good callers."""

from __future__ import annotations

import resource
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tests.faults.invariants import Expected
from tests.faults.raw import connection, get
from tests.faults.rig import DEADLINE_MS, Rig
from tests.faults.row import proven, row
from tests.faults.snapshot import snapshot
from tests.faults.traffic import DEGRADED, FULL, good_share, p99_ms

_RATE: Final = 80.0
_RATE_OF_ALL: Final = 10**6
_HEADER_SECONDS: Final = 5.0  # http.header_timeout_ms
_HEAD: Final = b"POST /rank HTTP/1.1\r\nhost: attacker\r\ncontent-type: application/json\r\n"


class Attackers(threading.Thread):
    """Many connections that each send a beginning, and then one byte a second."""

    def __init__(self, port: int, count: int, beginning: bytes, *, trickles: bool) -> None:
        super().__init__()
        self._port, self._count, self._beginning, self._trickles = port, count, beginning, trickles
        self.told = threading.Event()
        self.closed_after: list[float] = []
        self.still_open = 0

    def run(self) -> None:
        selector = selectors.DefaultSelector()
        for _ in range(self._count):
            made = socket.create_connection(("127.0.0.1", self._port), timeout=5)
            made.sendall(self._beginning)
            made.setblocking(False)
            selector.register(made, selectors.EVENT_READ, time.monotonic())
        trickled = time.monotonic()
        while not self.told.is_set():
            for key, _ in selector.select(0.05):
                self._read(selector, key)
            if self._trickles and time.monotonic() - trickled > 1:
                trickled = time.monotonic()
                for key in list(selector.get_map().values()):
                    with suppress(OSError):
                        key.fileobj.send(b"x")  # type: ignore[union-attr]
        self.still_open = len(selector.get_map())
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]

    def _read(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        try:
            data = key.fileobj.recv(4_096)  # type: ignore[union-attr]
        except OSError:
            data = b""
        if not data:
            selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]
            self.closed_after.append(time.monotonic() - key.data)


@contextmanager
def attack(port: int, count: int, beginning: bytes, *, trickles: bool = True) -> Iterator[Attackers]:
    attackers = Attackers(port, count, beginning, trickles=trickles)
    attackers.start()
    try:
        yield attackers
    finally:
        attackers.told.set()
        attackers.join()


def _attacked(rig: Rig, beginning: bytes, seconds: float, count: int, reason: str, bar: str, limit: float) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    expected = Expected(raises=(("ranker_connections_refused_total", {"reason": reason}),))
    refused = {"408": 0}  # rankings that the attackers began
    with rig.traffic(service, rate=_RATE, expected=expected, others=refused) as traffic:
        traffic.mark("quiet", 3)
        with attack(service.port, count, beginning) as attackers:
            traffic.mark("attack", seconds)
        refused["408"] = count if reason == "slow_body" else 0
        traffic.mark("after", 1)
    rig.require(attackers.still_open == 0, f"{attackers.still_open} of {count} attackers are still connected")
    longest = max(attackers.closed_after, default=0.0)
    rig.figure(bar, f"longest life of {count} attackers", longest, "s", most=limit + 1)
    rig.figure(
        bar,
        "p99 during the attack, of the quiet p99",
        p99_ms(traffic.phase("attack")) / p99_ms(traffic.phase("quiet")),
        "x",
        most=1.5,
    )


@row("H1", "slow headers (slowloris)", "transport", quick=True)
def slow_headers(rig: Rig) -> None:
    """The plain build closes none of them: uvicorn has no deadline for headers."""
    count = int(rig.pick(300, 2_000))
    _attacked(rig, _HEAD, _HEADER_SECONDS + 3, count, "slow_head", "B15", _HEADER_SECONDS)
    redis = rig.redis()
    with rig.plain(redis) as server, attack(server.port, 100, _HEAD) as attackers:
        time.sleep(_HEADER_SECONDS + 3)
    rig.figure("B15", "slow callers still connected after 8 s, of 100", 0, most=0, plain=attackers.still_open)


@row("H2", "slow bodies", "transport")
def slow_bodies(rig: Rig) -> None:
    beginning = _HEAD + b"content-length: 5000\r\n\r\n{"
    _attacked(rig, beginning, 13, int(rig.pick(100, 1_000)), "slow_body", "H2", 10.0)


@row("H13", "idle connections", "transport")
def idle(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    count = int(rig.pick(500, 3_500))
    with rig.traffic(service, rate=_RATE) as traffic:
        traffic.mark("quiet", 2)
        with attack(service.port, count, b"", trickles=False) as idlers:
            traffic.mark("idle", rig.pick(3, 4))  # less than the deadline of headers
        traffic.mark("after", 1)
    rig.note(f"{idlers.still_open} idle connections at the end")
    share = good_share(traffic.phase("idle"), DEADLINE_MS, outcomes=(FULL, DEGRADED))
    rig.figure("H13", f"answers in time beside {count} idle connections", 100 * share, "%", least=99.9)


@row("H12 O10", "no file descriptors left", "transport")
def no_descriptors(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    limits = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)
    # The caller itself has only 40 connections: a request that finds none free is not sent.
    with rig.traffic(service, rate=_RATE, connections=40, expected=Expected(may_refuse=_RATE_OF_ALL)) as traffic:
        traffic.mark("quiet", 1)
        open_now = snapshot(service).descriptors
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (open_now + 4, limits[1]))
        with attack(service.port, 60, _HEAD, trickles=False):
            traffic.mark("none left", 3)
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, limits)
        traffic.mark("after", 3)
    share = good_share(traffic.phase("none left"), DEADLINE_MS, outcomes=(FULL, DEGRADED))
    rig.figure("B16", "answers in time on kept connections, no descriptors left", 100 * share, "%", least=99.0)
    share = good_share(traffic.phase("after"), DEADLINE_MS, outcomes=(FULL, DEGRADED))
    rig.figure("B16", "answers in time after there are some again", 100 * share, "%", least=99.0)


_RAW: Final = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "HTTP/0.9": b"GET /rank\r\n\r\n", "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"POST /rank HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}", "two lengths": _HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "length and chunks": _HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": _HEAD + b"content-length: -1\r\n\r\n", "signed length": _HEAD + b"content-length: +2\r\n\r\n{}",
    "length in hex": _HEAD + b"content-length: 0x2\r\n\r\n{}", "space before the colon": _HEAD + b"content-length : 2\r\n\r\n{}",
    "identity encoding": _HEAD + b"transfer-encoding: identity\r\n\r\n{}", "chunked twice": _HEAD + b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "xchunked": _HEAD + b"transfer-encoding: xchunked\r\n\r\n", "bad chunk": _HEAD + b"transfer-encoding: chunked\r\n\r\nZZ\r\n",
    "bare LF": b"POST /rank HTTP/1.1\nhost: a\ncontent-length: 0\n\n", "bare CR": b"POST /rank HTTP/1.1\rhost: a\r\n\r\n",
    "folded header": _HEAD + b"x-a: 1\r\n b\r\ncontent-length: 2\r\n\r\n{}", "NUL in a header": _HEAD + b"x-a: a\0b\r\ncontent-length: 2\r\n\r\n{}",
    "100 header lines": _HEAD + b"".join(b"x-%d: 1\r\n" % n for n in range(100)) + b"content-length: 2\r\n\r\n{}",
    "a header of 64 KiB": _HEAD + b"x: " + b"a" * 65_536 + b"\r\ncontent-length: 2\r\n\r\n{}", "a target of 8 KiB": b"GET /" + b"a" * 8_192 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    "an unknown method": b"BREW /rank HTTP/1.1\r\nhost: a\r\n\r\n", "random bytes": bytes(range(256)) * 4, "gzip": _HEAD + b"content-encoding: br\r\ncontent-length: 2\r\n\r\n{}",
    "a gigabyte announced": _HEAD + b"content-length: 1073741824\r\n\r\n",
}  # fmt: skip


@row("H4 H5 H6 H7 H14", "bytes that are not a request, beside good callers", "transport", quick=True)
def raw_bytes(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    problems: list[str] = []
    rounds = int(rig.pick(3, 30))
    with rig.traffic(service, rate=_RATE, expected=Expected(is_counted=False)) as traffic:
        traffic.mark("quiet", 1)
        traffic.mark("raw")
        for _ in range(rounds):
            for name, data in _RAW.items():
                with connection(service.port) as attacker:
                    answer = attacker.send(data)
                if answer is not None and not (400 <= answer.status < 500 or answer.status in (501, 505)):
                    problems.append(f"{name}: {answer.status}")
                if answer is not None and len(answer.body) > 512:
                    problems.append(f"{name}: {len(answer.body)} bytes")
                if answer is not None and answer.seconds > 1.5:
                    problems.append(f"{name}: {answer.seconds:.1f} s")
        traffic.mark("after", 1)
    rig.asked(rounds * len(_RAW))
    rig.require(not problems, f"{len(problems)} bad answers: {problems[:4]}")
    rig.figure(
        "C3", f"raw requests answered otherwise than by 4xx or a close, of {rounds * len(_RAW)}", len(problems), most=0
    )


@row("H15", "health checks beside a flood", "transport")
def health(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis, LIMITS__MAX_INFLIGHT="4")
    waits: list[float] = []
    with rig.traffic(service, rate=rig.pick(1_500, 2_500)) as traffic, get(service.port, "/health/ready") as probe:
        traffic.mark("flood")
        for _ in range(int(rig.pick(100, 600))):
            answer = probe.ask()
            rig.require(answer is not None and answer.status == 200, "a health check was not answered with 200")
            waits.append(1_000 * answer.seconds if answer else 0)
            time.sleep(0.02)
    rig.require(traffic.counts()["429"], "no ranking was refused: this was not a flood")
    rig.figure("H15", "slowest health check during a flood", max(waits), "ms", most=100.0)
    rig.note(f"{traffic.counts()['429']} of {len(traffic.records)} rankings were refused")


proven("H3", "callers who do not read their answers", "transport",
       "e2e/test_callers.py::test_slow_readers_of_large_answers_do_not_take_the_places_of_good_neighbours")  # fmt: skip
proven("H8", "pipelines", "transport",
       "unit/service/connection/test_protocol.py::test_unusual_requests_are_served_in_order_over_a_connection_that_stays",
       "unit/service/connection/test_protocol_ends.py::test_a_thousand_options_in_one_segment_are_answered_in_order")  # fmt: skip
proven("H9 H10 H11", "hostile request ids and buckets", "transport",
       "unit/service/http/test_front.py::test_no_unfit_byte_of_a_request_id_is_repeated",
       "unit/service/http/test_front.py::test_of_several_request_ids_the_first_fit_one_counts",
       "unit/service/http/test_front.py::test_a_bucket_that_a_client_sends_counts_for_nothing",
       "unit/service/http/test_api.py::test_a_signed_override_is_served_and_a_forged_one_ignored_and_counted")  # fmt: skip
