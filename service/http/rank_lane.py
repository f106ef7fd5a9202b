"""The short way of `POST /rank`: from a connection's bytes to the ranker and back, without ASGI, tasks or futures.

It serves the requests of nearly all callers. Unusual requests (another content type, an override, a body that the fast
decoder does not support, a service that is full or stopping) go the long way, through the middleware and the route,
which check and explain them. Both ways answer the same bytes (tests/e2e/test_corpus.py).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.connection.exchange import CLIENT_GONE, Exchange, Headers, budget_of, request_id_of, traceparent_of
from service.connection.lane import Caller
from service.errors import InternalError, NotReady, Overloaded, RankerError
from service.flow.gate import Gate, Part, Place
from service.http import rank_answer, rank_decoder, requests
from service.http.endings import Endings
from service.http.prepared import PreparedAnswer, PreparedRefusal
from service.ranking.answer import Ranking
from service.ranking.call import NO_RECORDS, NOTHING_STORED, RankCall
from service.runtime import Backend, Runtime

_LARGE_BODY_BYTES: Final = 65_536  # the long way charges it for its turn
_MEDIA: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})
_DEADLINE: Final = re.compile(rb"[0-9]{1,9}")
_UNUSUAL: Final = frozenset(
    {b"content-encoding", b"x-ab-override", b"expect", b"connection", b"upgrade", b"transfer-encoding", b"origin"}
)
_CHECKED: Final[dict[bytes, Callable[[bytes], object]]] = {  # each at most once
    b"content-type": _MEDIA.__contains__,
    b"content-length": lambda value: len(value) <= 5 and int(value) <= _LARGE_BODY_BYTES,
    b"x-deadline-ms": _DEADLINE.fullmatch,
    b"x-request-id": bool,
    b"traceparent": bool,
}

_NEVER: Final = asyncio.Event()

_log = structlog.get_logger(__name__)


class LaneCall(RankCall):
    """A ranking that uses the short way."""

    __slots__ = (
        "caller", "disconnected", "exchange", "keep_alive", "lane", "message_event", "response_complete",
        "response_started", "scope",
    )  # fmt: skip

    def __init__(self, lane: RankLane, caller: Caller, exchange: Exchange, *given: Any, **fields: Any) -> None:
        super().__init__(*given, **fields)
        self.lane, self.caller, self.exchange = lane, caller, exchange
        self.scope: None = None  # it has none: only the long way is ASGI
        self.message_event = _NEVER  # uvicorn sets it when the connection is lost
        self.keep_alive, self.response_started, self.response_complete, self.disconnected = True, False, False, False

    def finished(self) -> None:
        """Write the answer, and let go of what it was made of while the processor's cache has it.

        The connection keeps its last call until the next one.
        """
        self.lane.answer(self)
        self.answer, self.stored = None, NOTHING_STORED
        self.candidates = None  # type: ignore[assignment]  # no one asks after the end; a batch may still read `row`


class RankLane:
    """See the module.

    Args:
        runtime: the service's state.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._metrics, self._limits = runtime, runtime.metrics, runtime.settings.limits
        self._endings = Endings(runtime, runtime.metrics, runtime.settings)
        self._gate: Gate | Part = runtime.admission.rankings
        self._slow = runtime.slow
        self._open: set[LaneCall] = set()
        self._overloaded = PreparedRefusal(Overloaded(), self._endings)
        self._prepared = PreparedAnswer(self._endings, runtime.settings.experiments.show_bucket)
        self._snapshot: object = None  # the experiments that its headers name

    def suits(self, headers: Headers) -> bool:
        """Return whether the headers are those that nearly all callers send."""
        seen: set[bytes] = set()
        for name, value in headers:
            if name in _UNUSUAL:
                return False
            if name in _CHECKED:
                if name in seen or not _CHECKED[name](value):
                    return False
                seen.add(name)
        return b"content-type" in seen

    def budget(self, headers: Headers) -> float:
        """Return the seconds that a request may take, which `suits`."""
        return budget_of(headers, self._limits.deadline_ms, self._limits.max_deadline_ms)

    def refusal(self, headers: Headers, budget: float) -> bytes | None:
        """Return the answer to a ranking that is one too many; None: it may be taken."""
        backend = self._runtime.backend
        if not self._gate.is_full(budget) or backend is None or self._runtime.is_draining:
            return None
        if backend.experiments.snapshot is not self._snapshot:
            self._overloaded = PreparedRefusal(Overloaded(), self._endings)
            self._snapshot = backend.experiments.snapshot
        self._metrics.ranking_shed()
        return self._overloaded.answer(request_id_of(headers).encode(), traceparent_of(headers))

    def take(
        self, caller: Caller, headers: Headers, body: bytes, budget: float, arrived: float, began: float, waited: float
    ) -> LaneCall | None:
        """Rank for a caller; None: the request goes the long way.

        Args:
            caller: gets the answer's bytes.
            headers: of the request.
            body: all of it.
            budget: seconds that the request may take.
            arrived: event loop time at which its beginning could have been read.
            began: when its headers were read, by `time.perf_counter`.
            waited: seconds between the two.
        """
        backend = self._runtime.backend
        if backend is None or self._runtime.is_draining:
            return None
        wanted = rank_decoder.decode_rank(body, self._limits)
        if wanted is None:
            return None
        exchange = Exchange(headers, arrived)
        if budget <= waited or not self._gate.enter(budget):
            return None
        exchange.began = began
        exchange.is_ranking, exchange.place = True, Place(self._gate)
        try:
            call = self._call_of(caller, exchange, backend, wanted, arrived + budget)
            backend.ranker.submit(call)
        except Exception:  # the long way fails on it too, and knows how to say so
            exchange.leave()
            return None
        if self._runtime.traces is not None:
            exchange.trace = self._runtime.traces.begin(exchange.traceparent, exchange.request_id)
        self._open.add(call)
        self._metrics.request_started()
        return call

    def _call_of(
        self, caller: Caller, exchange: Exchange, backend: Backend, wanted: rank_decoder.RankBody, deadline: float
    ) -> LaneCall:
        now_ms = self._runtime.now_ms()
        exchange.decision = decision = backend.experiments.decide(wanted.user_id, wanted.attributes, now_ms)
        return LaneCall(
            self,
            caller,
            exchange,
            exchange.request_id,
            wanted.user_id,
            wanted.candidates,
            decision,
            limit=wanted.limit,
            recent=rank_decoder.records_of(wanted.recent) if wanted.recent else NO_RECORDS,
            request_time_ms=now_ms if wanted.request_time == requests.NOW else wanted.request_time,
            explain=wanted.explain,
            seen=wanted.seen,
            attributes=wanted.attributes,
            context=wanted.context,
            deadline=deadline,
        )

    def stop(self) -> int:
        """Refuse rankings that did not end; return how many there were."""
        left = list(self._open)
        for call in left:
            call.error = NotReady("The service is stopping.")
            call.ranker.end(call)
        return len(left)

    def answer(self, call: LaneCall) -> None:
        """Write the answer of a call that has ended, and count it."""
        self._open.discard(call)
        exchange = call.exchange
        exchange.leave()
        if exchange.trace is not None:
            exchange.stages, exchange.runs = call.timings, call.runs
        status = CLIENT_GONE
        if not call.is_gone:
            content, status = self._answer_of(call)
            call.caller.answer(call, content)
        self._endings.finish("POST", "/rank", exchange, status)
        if self._slow is not None and time.perf_counter() - call.began > self._slow.least:
            self._slow.keep(call, exchange)

    def _answer_of(self, call: LaneCall) -> tuple[bytes, int]:
        exchange = call.exchange
        if call.answer is not None:
            try:
                return self._listed(call, call.answer), 200
            except Exception:  # the caller must not wait for nothing
                _log.exception("request_failed", request_id=exchange.request_id)
        error = call.error if isinstance(call.error, RankerError) else InternalError()
        headers, body = self._endings.refused(error, exchange)
        return _bytes(error.status, [*headers, *self._endings.headers(exchange)], body, call.keep_alive), error.status

    def _listed(self, call: LaneCall, ranking: Ranking) -> bytes:
        exchange = call.exchange
        exchange.notes = {"model": f"{ranking.model}@{ranking.version}", "candidates": len(call.item_ids)}
        if ranking.degraded:
            exchange.notes["degraded"] = ranking.degraded
        if call.keep_alive and not self._runtime.is_draining:
            return self._prepared.answer(exchange, call.decision, ranking)
        exchange.headers = rank_answer.rank_headers(ranking)
        body = rank_answer.rank_body(exchange.request_id, ranking, call.decision.parameters)
        headers = [*rank_answer.body_headers(len(body)), *self._endings.headers(exchange)]
        return _bytes(200, headers, body, call.keep_alive)


def _bytes(status: int, headers: Headers, body: bytes, keep_alive: bool) -> bytes:
    lines = [b"%b: %b\r\n" % header for header in headers]
    if not keep_alive and (b"connection", b"close") not in headers:
        lines.append(b"connection: close\r\n")
    return b"".join([STATUS_LINE[status], *lines, b"\r\n", body])
