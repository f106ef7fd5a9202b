"""A service that is overloaded, without its Redis or about to stop; and one that pages of other origins may call.

One process goes through all of these states, in this order.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.e2e.corpus.case import GOOD, JSON, Case, body, chunked, get, post
from tests.e2e.corpus.replay import Replay, Result
from tests.e2e.corpus.rig import Rig

SETTINGS: Final = {
    "HTTP__CORS_ORIGINS": '["https://feed.example"]', "HTTP__DRAIN_DELAY_MS": "600000", "LIMITS__MAX_INFLIGHT": "2", "LIMITS__MAX_WRITES": "2",
    "STREAMS__ACK_TIMEOUT_MS": "20000", "REDIS__READ_TIMEOUT_MS": "15000", "REDIS__WRITE_TIMEOUT_MS": "15000",
}  # fmt: skip
_BEHAVIOURS: Final = post('{"behaviours":[{"user_id":"w1","item_id":"i1","ts":1700000000000}]}', path="/behaviours")
_TRACE: Final = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"

Recorded = dict[str, tuple[Case, Result]]


def replay(folder: Path, cases_of: Callable[[str], list[Case]]) -> Recorded:
    """Take one service through all states, and return the cases of each with their results."""
    rig, found = Rig(folder, **SETTINGS), dict[str, tuple[Case, Result]]()
    try:
        rig.redis.start()
        rig.fill()
        rig.service.start()
        replayed = Replay(rig)

        def run(state: str) -> None:
            for case in cases_of(state):
                found[case.name] = case, replayed.run(case)

        run("cors")
        for state, request in {"overloaded": post(GOOD), "behaviours": _BEHAVIOURS}.items():
            with _busy(rig, str(request[0])):
                run(state)
        rig.redis.kill()
        run("without redis")
        rig.service.send(signal.SIGTERM)
        rig.service.until(lambda: rig.service.metric("ranker_ready") == 0, "draining")
        run("draining")
        results = replayed.with_log({name: result for name, (_, result) in found.items()})
        return {name: (case, results[name]) for name, (case, _) in found.items()}
    finally:
        rig.close()


def cases(state: str) -> list[Case]:
    """Return the cases of a state."""
    return [_of(state, case) for case in _CASES[state]]


def _of(state: str, case: Case) -> Case:
    own_id = state.replace(" ", "-")
    send = tuple(piece.replace("of-a-state", own_id) if isinstance(piece, str) else piece for piece in case.send)
    return replace(case, name=f"{state}: {case.name}", send=send)


@contextmanager
def _busy(rig: Rig, request: str) -> Iterator[None]:
    """Have as many requests wait for Redis as may be in progress at once."""
    rig.redis.freeze()
    callers = [socket.create_connection(("127.0.0.1", rig.service.port)) for _ in range(2)]
    try:
        for caller in callers:
            caller.sendall(request.encode("latin-1"))
        rig.service.until(lambda: rig.service.metric("ranker_inflight_requests") == 3, "busy")  # 1 asks for the metric
        yield
        rig.redis.thaw()
        for caller in callers:
            answer = caller.recv(1 << 16)
            assert answer.startswith(b"HTTP/1.1 20"), answer
    finally:
        rig.redis.thaw()
        for caller in callers:
            caller.close()


def _usual() -> Iterator[Case]:
    """Return cases for every state."""
    yield Case("a ranking", post(GOOD))
    yield Case(
        "a ranking with a request id and a trace", post(GOOD, headers=f"{JSON}x-request-id: of-a-state\r\n{_TRACE}")
    )
    yield Case("a bad ranking", post("{"))
    yield Case("a ranking of no user", post('{"candidates":["i1"]}'))
    yield Case("a ranking of the wrong type", post(GOOD, headers="content-type: text/plain\r\n"))
    yield Case("a ranking with an unfit deadline", post(GOOD, headers=f"{JSON}x-deadline-ms: x\r\n"))
    yield Case("a ranking in chunks", chunked(GOOD[:9], GOOD[9:]))
    yield Case("a ranking that is too large", post((" ", 1_048_577)))
    yield Case("a ranking with Connection: close", post(GOOD, headers=f"{JSON}connection: close\r\n"))
    yield Case("a ranking of HTTP/1.0", tuple(str(piece).replace("HTTP/1.1", "HTTP/1.0") for piece in post(GOOD)))
    yield Case("GET /rank", get("/rank"))
    yield Case("HEAD /rank", get("/rank", method="HEAD"), bodyless=(0,))
    yield Case("ranking, health, ranking", (*post(GOOD), *get("/health/live"), *post(body(user_id='"u2"'))), requests=3)
    yield Case("GET /health/live", get("/health/live"))
    yield Case("GET /health/ready", get("/health/ready"))
    yield Case("HEAD /health/ready", get("/health/ready", method="HEAD"), bodyless=(0,))
    yield Case("GET /none", get("/none"))
    yield Case("malformed", ("NONSENSE\r\n\r\n",))


def _writing() -> Iterator[Case]:
    yield Case("behaviours", _BEHAVIOURS)
    yield Case("behaviours that are bad", post("{", path="/behaviours"))
    yield Case("behaviours, then health", (*_BEHAVIOURS, *get("/health/live")), requests=2)
    yield Case(
        "feedback",
        post('{"feedback":[{"user_id":"w1","item_id":"i1","action":"like","ts":1700000000000}]}', path="/feedback"),
    )


def _origins() -> Iterator[Case]:
    good, bad = "origin: https://feed.example\r\n", "origin: https://other.example\r\n"
    asks = "access-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n"
    yield Case("no origin", post(GOOD))
    for name, origin in {
        "good": good,
        "bad": bad,
        "in capitals": "Origin: https://FEED.example\r\n",
        "null": "origin: null\r\n",
        "twice": bad + good,
    }.items():
        yield Case(f"{name} origin", post(GOOD, headers=JSON + origin))
        yield Case(f"{name} origin, bad body", post("{", headers=JSON + origin))
        for path in ("/rank", "/behaviours", "/info", "/none", "*"):
            yield Case(f"{name} origin, preflight of {path}", get(path, method="OPTIONS", headers=origin + asks))
    yield Case("preflight without an origin", get("/rank", method="OPTIONS", headers=asks))
    yield Case("OPTIONS that is no preflight", get("/rank", method="OPTIONS", headers=good))
    yield Case("good origin, /health/live", get("/health/live", headers=good))
    yield Case("good origin, malformed", (f"POST /rank HTTP/1.1\r\n{good}\r\n",))


_CASES: Final = {
    "cors": [*_origins()],
    "overloaded": [*_usual()],
    "behaviours": [*_writing(), Case("GET /health/ready", get("/health/ready"))],
    "without redis": [*_usual(), *_writing(), Case("GET /behaviours/two", get("/behaviours/two")),
                      Case("explained", post(body(user_id='"two"', explain="true", recent='[{"item_id":"i3","ts":1700000000000}]')))],
    "draining": [*_usual(), *_writing(), Case("two rankings", (*post(GOOD), *post(GOOD)), requests=2),
                 Case("preflight", get("/rank", method="OPTIONS", headers="origin: https://feed.example\r\naccess-control-request-method: POST\r\n"))],
}  # fmt: skip
STATES: Final = tuple(_CASES)
