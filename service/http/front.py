"""The outermost layer, plain ASGI: every answer of every route leaves through here.

It gives each request its id and its exchange (what is known of the request so far), admits or refuses it, renders
errors, sets the headers that every answer has, counts, and writes the access line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.access import Access
from service.connection.exchange import CLIENT_GONE, EXCHANGE, REFUSED, WAITED, Exchange, Headers, find_header
from service.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    NotFound,
    NotReady,
    Overloaded,
    RankerError,
    TooLarge,
)
from service.flow.gate import Gate, Part, Place
from service.http.codec import check_media
from service.http.content_coding import inflated, is_gzip
from service.http.endings import Endings, Front
from service.metrics import Metrics
from service.settings.root import Settings

_PROBES: Final = frozenset({"/health/live", "/health/ready"})
_ANY_END: Final = "/behaviours/"  # followed by a user's id
_LARGE_BODY_BYTES: Final = 65_536  # more than a ranking of 2,000 candidates usually has
_SECONDS_PER_BYTE: Final = 1e-8  # of a body, to parse it
_REFUSAL_SECONDS: Final = 0.0002  # what a refusal costs
_SERVER_OPTIONS: Final = (b"allow", b"GET, HEAD, POST, OPTIONS")

_log = structlog.get_logger(__name__)


class ClientGone(Exception):  # noqa: N818 - reads as a state; never leaves the service
    """The caller disconnected before the body was complete."""


class FrontMiddleware:
    """See the module.

    Args:
        app: what answers.
        front: the service's state.
        metrics: counts.
        settings: limits and logging.
        keys: checks API keys; None: no request needs one.
    """

    def __init__(
        self, app: ASGIApp, front: Front, metrics: Metrics, settings: Settings, keys: Access | None = None
    ) -> None:
        self._app, self._front, self._metrics = app, front, metrics
        self._limits = settings.limits
        self._endings = Endings(front, metrics, settings)
        self._cors = self._endings.cors
        self._admission, self._keys = front.admission, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; one that asks for the head of an answer only is routed as GET."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope["headers"], asyncio.get_running_loop().time() - scope.get(WAITED, 0.0))
        if self._front.traces is not None:
            exchange.trace = self._front.traces.begin(exchange.traceparent, exchange.request_id)
        exchange.is_ranking = scope["path"] == "/rank"
        scope[EXCHANGE] = exchange
        is_head = scope["method"] == "HEAD"
        routed = {**scope, "method": "GET"} if is_head else scope
        answer = _Answer(send, exchange, self._endings.headers, is_head)
        self._metrics.request_started()
        try:
            error = await self._answer(routed, receive, answer)
            await self._refuse(error, exchange, answer)
        except ClientGone:
            answer.status = scope.get(REFUSED, CLIENT_GONE)
        except asyncio.CancelledError:
            # The protocol cancels when the caller has hung up, the server when the last requests take too long. This
            # is the outermost frame of the request's own task, so nothing above waits to see the cancellation.
            if REFUSED in scope:
                answer.status = scope[REFUSED]
            else:
                await self._refuse(NotReady("The service is stopping."), exchange, answer)
        finally:
            exchange.leave()
            self._finish(scope["method"], routed, exchange, answer.status)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> RankerError | None:
        """Let the application answer; return the error that it could not render."""
        exchange: Exchange = scope[EXCHANGE]
        path: str = scope["path"]
        try:
            if self._keys is not None:
                self._check_key(self._keys, scope)
            if path.endswith("\n") and not path.startswith(_ANY_END):
                raise NotFound  # Starlette's router would find the route without the line break
            self._check_length(exchange)
            if exchange.is_ranking:
                return await self._admitted(self._rankings(exchange), scope, receive, send)
            if scope["method"] == "POST" and path in self._admission.writes:
                return await self._admitted(self._admission.writes[path], scope, receive, send)
            if path in _PROBES:
                await self._admission.probes.take()
                return await self._run(scope, receive, send)
            await self._admission.turns.take()
            with self._admission.turns.charged():
                return await self._run(scope, receive, send)
        except RankerError as error:
            exchange.leave()  # waiting for a turn must not keep good rankings out
            await self._wait_to_refuse(error, exchange)
            return error

    def _rankings(self, exchange: Exchange) -> Gate | Part:
        """Return the gate of a ranking, as its caller sees it."""
        return exchange.key.caller.rankings if exchange.key is not None else self._admission.rankings

    async def _admitted(self, gate: Gate | Part, scope: Scope, receive: Receive, send: Send) -> RankerError | None:
        """Answer behind a gate.

        Excess requests are refused before any work: under overload, refusals are the load. A request enters only when
        it is complete, so that a caller that sends slowly cannot block a place.
        """
        exchange: Exchange = scope[EXCHANGE]
        if not exchange.is_ranking and gate.is_full():
            exchange.is_shed = True
            raise Overloaded  # with its body unread
        body = await read_body(receive, self._limits.max_body_bytes)
        if find_header(exchange.request_headers, b"content-encoding") is not None:
            body = await self._plain(exchange, gate, body)
        exchange.body = body
        if len(body) > _LARGE_BODY_BYTES and exchange.is_ranking:
            await self._admission.turns.take()
            self._admission.turns.charge(len(body) * _SECONDS_PER_BYTE)
        if scope.get(WAITED) and exchange.is_ranking:
            self._check_deadline(exchange)
        if not gate.enter():
            exchange.is_shed = True
            return Overloaded()
        exchange.place = Place(gate)
        return await self._run(scope, receive, send)

    async def _plain(self, exchange: Exchange, gate: Gate | Part, body: bytes) -> bytes:
        """Return a body without its coding; a request that would be refused in any case costs no inflating."""
        check_media(exchange.header(b"content-type"), None)
        if not is_gzip(exchange.request_headers):
            return body
        if gate.is_full():
            exchange.is_shed = True
            raise Overloaded
        return await inflated(body, self._limits.max_body_bytes, self._admission.turns)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> RankerError | None:
        exchange: Exchange = scope[EXCHANGE]
        if scope["method"] == "OPTIONS" and await self._options(scope, send):
            return None
        try:
            with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
                await self._app(scope, receive, send)
        except (RankerError, ClientGone):
            raise
        except Exception:
            _log.exception("request_failed", request_id=exchange.request_id)
            return InternalError()
        return None

    async def _options(self, scope: Scope, send: Send) -> bool:
        """Answer requests to the server as a whole, and preflights of browsers."""
        preflight = self._cors.preflight(scope["method"], scope["headers"])
        headers = [_SERVER_OPTIONS] if scope["path"] == "*" else preflight
        if headers is None:
            return False
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return True

    def _check_key(self, keys: Access, scope: Scope) -> None:
        """Refuse a request without a fit key; browsers ask for permission before they send one."""
        if self._cors.preflight(scope["method"], scope["headers"]) is None:
            exchange: Exchange = scope[EXCHANGE]
            exchange.key = keys.identify(scope["path"], scope["headers"])
            if exchange.key is not None:
                keys.check(exchange.key, scope["path"])

    async def _wait_to_refuse(self, error: RankerError, exchange: Exchange) -> None:
        pace = self._keys.pace(error, exchange.key) if self._keys is not None else None
        if pace is not None:
            await pace.wait()
            return
        await self._admission.turns.take()
        self._admission.turns.charge(_REFUSAL_SECONDS)

    def _check_length(self, exchange: Exchange) -> None:
        declared = find_header(exchange.request_headers, b"content-length")
        most = self._limits.max_body_bytes
        if declared is not None and (not declared.isdigit() or int(declared[:20]) > most):
            self._metrics.rejected("too_large")
            raise TooLarge(f"The body must be at most {most} bytes.")

    def _check_deadline(self, exchange: Exchange) -> None:
        """Refuse a ranking whose deadline passed in the kernel, because the process was stopped or busy."""
        try:
            deadline = exchange.deadline(self._limits.deadline_ms, self._limits.max_deadline_ms)
        except InvalidRequest:
            return  # the route refuses it, once the arm is decided
        if deadline <= asyncio.get_running_loop().time():
            raise DeadlineExceeded("The deadline passed before the work began.")

    async def _refuse(self, error: RankerError | None, exchange: Exchange, send: _Answer) -> None:
        if error is None or send.has_started:
            return
        headers, body = self._endings.refused(error, exchange)
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _finish(self, method: str, scope: Scope, exchange: Exchange, status: int) -> None:
        route = getattr(scope.get("route"), "path_format", self._gated(scope["path"]))
        self._endings.finish(method, route, exchange, status)

    def _gated(self, path: str) -> str:
        """Return the route of a request that no router has seen."""
        return path if path == "/rank" or path in self._admission.writes else "none"


class _Answer:
    """Sends every message of one answer."""

    __slots__ = ("_exchange", "_headers", "_is_head", "_send", "has_started", "status")

    def __init__(self, send: Send, exchange: Exchange, headers: Callable[[Exchange], Headers], is_head: bool) -> None:
        self._send, self._exchange, self._headers, self._is_head = send, exchange, headers, is_head
        self.status, self.has_started = CLIENT_GONE, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.has_started = message["status"], True
            message["headers"] = [*message["headers"], *self._headers(self._exchange)]
            self._exchange.leave()  # the answer is ready: a caller that is slow to read it does not block a place
        elif self._is_head:
            message = {**message, "body": b""}
        await self._send(message)


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return a request's body.

    Raises:
        TooLarge: longer than the limit; no more than that is kept.
        ClientGone: the caller disconnected.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message: MutableMapping[str, Any] = await receive()  # Any: ASGI
        if message["type"] != "http.request":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise TooLarge(f"The body must be at most {limit} bytes.")
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
