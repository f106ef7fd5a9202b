"""The outermost layer, plain ASGI: every answer of every route leaves through here, whatever made it.

It gives each request its id and its exchange (what is known of the request so far), refuses bodies that announce
themselves as too large, renders errors, sets the headers that every answer has, counts, and writes the access line.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import MutableMapping
from typing import Any, Final, Literal, Protocol

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.assignment import Decision
from service.errors import InternalError, InvalidRequest, NotReady, Overloaded, RankerError, TooLarge
from service.gate import Gate
from service.metrics import Metrics
from service.settings import Settings

EXCHANGE: Final = "ranker.exchange"
REFUSED: Final = "ranker.refused"  # in the scope: the status with which the protocol has already answered
CLIENT_GONE: Final = 499  # in metrics and logs alone: nobody was there to be answered

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:+/=@-]{0,127}")
_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_DEADLINE: Final = re.compile(rb"[0-9]{1,9}")
_QUIET: Final = frozenset({"/health/live", "/health/ready", "/metrics"})
_TARGET: Final = 1 / 3  # of the usual deadline: what a ranking may take here, before the next one costs it its own
_PERSONAL: Final = (b"cache-control", b"private, no-store")

Headers = list[tuple[bytes, bytes]]

_log = structlog.get_logger(__name__)


class ClientGone(Exception):  # noqa: N818 - reads as a state; never leaves the service
    """The caller hung up before the body was there."""


class Front(Protocol):
    """What the middleware needs to know of the service."""

    @property
    def is_draining(self) -> bool:
        """Return whether the service is about to stop."""

    def undecided(self, reason: Literal["not_ranked", "error"]) -> Decision:
        """Return the decision of an answer that did not rank."""


class Exchange:
    """What is known of one request so far."""

    __slots__ = (
        "arrived",
        "began",
        "decision",
        "headers",
        "is_ranking",
        "is_shed",
        "notes",
        "request_headers",
        "request_id",
        "traceparent",
    )

    def __init__(self, request_headers: Headers, arrived: float) -> None:
        self.request_headers = request_headers
        self.arrived = arrived  # event loop time, for deadlines
        self.began = time.perf_counter()  # for durations: uvloop's own clock knows milliseconds alone
        self.request_id = _request_id(request_headers)
        self.traceparent = _traceparent(request_headers)
        self.decision: Decision | None = None
        self.is_ranking = False
        self.is_shed = False  # refused at the gate: counted but not logged, since that costs more than refusing does
        self.headers: Headers = []  # of the answer, beside those that every answer has
        self.notes: dict[str, object] = {}  # for the access line

    def header(self, name: bytes) -> str | None:
        """Return the first value of a request header, or None."""
        value = find_header(self.request_headers, name)
        return value.decode("latin-1") if value is not None else None

    def deadline(self, default_ms: int, longest_ms: int) -> float:
        """Return the event loop time after which nobody needs the answer.

        Raises:
            InvalidRequest: X-Deadline-Ms is no whole number.
        """
        value = find_header(self.request_headers, b"x-deadline-ms")
        if value is not None and not _DEADLINE.fullmatch(value):
            raise InvalidRequest("must be a whole number of milliseconds", field="X-Deadline-Ms")
        wanted_ms = default_ms if value is None else int(value)
        return self.arrived + min(max(wanted_ms, 1), longest_ms) / 1000


class FrontMiddleware:
    """See the module.

    Args:
        app: what answers.
        front: what the service is doing.
        metrics: counts.
        settings: limits, and what is logged.
    """

    def __init__(self, app: ASGIApp, front: Front, metrics: Metrics, settings: Settings) -> None:
        self._app, self._front, self._metrics = app, front, metrics
        self._max_body = settings.limits.max_body_bytes
        self._access = settings.logging.access
        self._show_bucket = settings.experiments.show_bucket
        self._gate = Gate(settings.limits.max_inflight, _TARGET * settings.limits.deadline_ms / 1000)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope["headers"], asyncio.get_running_loop().time())
        exchange.is_ranking = scope["path"] == "/rank"
        scope[EXCHANGE] = exchange
        status = CLIENT_GONE
        has_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, has_started
            if message["type"] == "http.response.start":
                status, has_started = message["status"], True
                message["headers"] = [*message["headers"], *self._headers(exchange)]
            await send(message)

        self._metrics.request_started()
        try:
            error = await self._answer(scope, receive, send_with_headers)
            if error is not None and not has_started:
                await self._refuse(error, exchange, send_with_headers)
        except ClientGone:
            status = scope.get(REFUSED, CLIENT_GONE)
        finally:
            self._finish(scope, exchange, status)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> RankerError | None:
        """Let the application answer; return what it could not answer with.

        A ranking too many is refused before anything has been done for it: under overload, refusals are the load. It
        stands at the gate only once it is all there, so that nobody who sends slowly can hold a place.
        """
        exchange: Exchange = scope[EXCHANGE]
        try:
            self._check_length(exchange)
            if not exchange.is_ranking:
                return await self._run(scope, receive, send)
            body = await read_body(receive, self._max_body)
        except RankerError as error:
            return error
        except asyncio.CancelledError:
            return NotReady("The service is stopping.")
        if not self._gate.enter():
            exchange.is_shed = True
            return Overloaded()
        entered = time.perf_counter()
        try:
            return await self._run(scope, _again(body, receive), send)
        finally:
            self._gate.leave(time.perf_counter() - entered)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> RankerError | None:
        exchange: Exchange = scope[EXCHANGE]
        try:
            with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
                await self._app(scope, receive, send)
        except RankerError as error:
            return error
        except ClientGone:
            raise
        except asyncio.CancelledError:
            # The protocol cancels when the caller has hung up, the server when the last requests take too long. This
            # is the outermost frame of the request's own task, so nothing above waits to see the cancellation.
            return NotReady("The service is stopping.")
        except Exception:
            _log.exception("request_failed", request_id=exchange.request_id)
            return InternalError()
        return None

    def _check_length(self, exchange: Exchange) -> None:
        declared = find_header(exchange.request_headers, b"content-length")
        if declared is not None and (not declared.isdigit() or int(declared[:20]) > self._max_body):
            self._metrics.rejected("too_large")
            raise TooLarge(f"The body must be at most {self._max_body} bytes.")

    async def _refuse(self, error: RankerError, exchange: Exchange, send: Send) -> None:
        body = error.body(exchange.request_id)
        if exchange.is_ranking and error.code in {"overloaded", "deadline_exceeded", "not_ready"}:
            self._metrics.rejected(error.code)
        exchange.notes["code"] = error.code
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if error.retry_after is not None:
            headers.append((b"retry-after", str(error.retry_after).encode()))
        if isinstance(error, TooLarge) and error.field is None:
            headers.append((b"connection", b"close"))  # whatever is left of the body is not read
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _headers(self, exchange: Exchange) -> Headers:
        """Return the headers of an answer, which says that nothing was decided where nothing was."""
        decision = exchange.decision or self._front.undecided("error" if exchange.is_ranking else "not_ranked")
        headers = [
            (b"x-request-id", exchange.request_id.encode()),
            *bucket_headers(decision, self._show_bucket),
            (b"x-content-type-options", b"nosniff"),
            *exchange.headers,
        ]
        if exchange.is_ranking:
            headers.append(_PERSONAL)
        if exchange.traceparent is not None:
            headers.append((b"traceparent", exchange.traceparent))
        if self._front.is_draining:
            headers.append((b"connection", b"close"))
        return headers

    def _finish(self, scope: Scope, exchange: Exchange, status: int) -> None:
        seconds = time.perf_counter() - exchange.began
        route = getattr(scope.get("route"), "path_format", "/rank" if exchange.is_ranking else "none")
        variant = exchange.decision.variant if exchange.decision is not None else "none"
        self._metrics.request_finished(route, status, variant, seconds)
        if self._access and not exchange.is_shed and (status >= 400 or route not in _QUIET):
            _log.info(
                "request",
                request_id=exchange.request_id,
                method=scope["method"],
                route=route,
                status=status,
                duration_ms=round(seconds * 1000, 3),
                variant=variant,
                **({"trace_id": exchange.traceparent[3:35].decode()} if exchange.traceparent else {}),
                **exchange.notes,
            )


def bucket_headers(decision: Decision, show_bucket: bool) -> Headers:
    """Return X-AB-Bucket, and X-AB-Config where a file is in force."""
    headers = [(b"x-ab-bucket", decision.header(show_bucket).encode())]
    if decision.digest:
        headers.append((b"x-ab-config", f'"{decision.digest}"'.encode()))
    return headers


def find_header(headers: Headers, name: bytes) -> bytes | None:
    """Return the first value of a header, its name in lower case, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return a request's body.

    Raises:
        TooLarge: longer than the limit; no more than that is held.
        ClientGone: the caller hung up.
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


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body which has been read, and then whatever really comes."""
    parts = [body]

    async def receive_again() -> Message:
        return {"type": "http.request", "body": parts.pop(), "more_body": False} if parts else await receive()

    return receive_again


def new_request_id() -> str:
    """Return 128 random bits in hexadecimal."""
    return secrets.token_hex(16)


def _request_id(headers: Headers) -> str:
    """Return the first X-Request-Id that is fit to be repeated in headers and logs, or a new one."""
    for key, value in headers:
        if key == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode()
    return new_request_id()


def _traceparent(headers: Headers) -> bytes | None:
    value = find_header(headers, b"traceparent")
    return value if value is not None and _TRACEPARENT.fullmatch(value) else None
