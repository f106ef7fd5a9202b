"""The end of every answer, for both ways of a request: common headers, refusals, counts, and the access line."""

from __future__ import annotations

import time
from typing import Final, Literal, Protocol, cast

from contract.experiments.decision import Decision
from service.connection.exchange import CLIENT_GONE, Exchange, Headers
from service.errors import Forbidden, OverQuota, RankerError, TooLarge, Unauthorized
from service.flow.admission import Admission
from service.http.cors import Cors
from service.metrics import Metrics
from service.names import CallerOutcome
from service.output.access_log import AccessLog
from service.settings.root import Settings
from service.tracing.ended import Ended, Fact
from service.tracing.traces import Traces

_QUIET: Final = frozenset({"/health/live", "/health/ready", "/metrics"})
_OUTCOMES: Final[dict[int, CallerOutcome]] = {Forbidden.status: "forbidden", CLIENT_GONE: "gone"}
PERSONAL: Final = (b"cache-control", b"private, no-store")


class Front(Protocol):
    """The service's state, for the HTTP layer."""

    @property
    def is_draining(self) -> bool:
        """Return whether the service is about to stop."""

    @property
    def admission(self) -> Admission:
        """Return the gates and turns."""

    @property
    def traces(self) -> Traces | None:
        """Return the traces, if requests are traced."""

    @property
    def access(self) -> AccessLog:
        """Return the writer of the access line."""

    def undecided(self, reason: Literal["not_ranked", "error"]) -> Decision:
        """Return the decision of an answer that did not rank."""


class Endings:
    """See the module.

    Args:
        front: the service's state.
        metrics: counts.
        settings: of headers and logs.
    """

    def __init__(self, front: Front, metrics: Metrics, settings: Settings) -> None:
        self._front, self._metrics = front, metrics
        self._show_bucket = settings.experiments.show_bucket
        self._counts_callers = settings.access.file is not None
        self.cors = Cors(settings.http.cors_origins, takes_keys=self._counts_callers)

    def headers(self, exchange: Exchange) -> Headers:
        """Return the headers of an answer; its bucket shows whether an arm was decided."""
        decision = exchange.decision or self._front.undecided("error" if exchange.is_ranking else "not_ranked")
        headers = [
            (b"x-request-id", exchange.request_id.encode()),
            *bucket_headers(decision, self._show_bucket),
            (b"x-content-type-options", b"nosniff"),
            *exchange.headers,
            *self.cors.headers(exchange.request_headers),
        ]
        if exchange.is_ranking:
            headers.append(PERSONAL)
        if exchange.traceparent is not None:
            headers.append((b"traceparent", exchange.traceparent))
        if exchange.key is not None and not exchange.is_shed:
            headers += exchange.key.caller.meter.fields()
        if self._front.is_draining:
            headers.append((b"connection", b"close"))
        return headers

    def refused(self, error: RankerError, exchange: Exchange) -> tuple[Headers, bytes]:
        """Return a refusal's headers and body, and count it."""
        if exchange.is_ranking and error.code in {"overloaded", "deadline_exceeded", "not_ready"}:
            self._metrics.rejected(error.code)
        exchange.notes["code"] = error.code
        return self.refusal(error, exchange.request_id)

    def refusal(self, error: RankerError, request_id: str) -> tuple[Headers, bytes]:
        """Return a refusal's own headers and body."""
        body = error.body(request_id)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if error.retry_after is not None:
            headers.append((b"retry-after", str(error.retry_after).encode()))
        headers += error.headers
        if isinstance(error, TooLarge) and error.field is None:
            headers.append((b"connection", b"close"))  # the rest of the body is not read
        return headers, body

    def finish(self, method: str, route: str, exchange: Exchange, status: int) -> None:
        """Count an answer and write its access line."""
        seconds = time.perf_counter() - exchange.began
        variant = exchange.decision.variant if exchange.decision is not None else "none"
        self._metrics.request_finished(route, status, variant, seconds)
        if self._counts_callers:
            self._count_caller(exchange, status)
        is_silent = exchange.is_shed or (status == OverQuota.status and exchange.notes.get("code") == OverQuota.code)
        if not is_silent and (status >= 400 or route not in _QUIET):
            trace_id = exchange.trace_id
            self._front.access.request(
                exchange.request_id, method, route, status, seconds, variant, trace_id, **exchange.notes
            )
        if exchange.trace is not None and self._front.traces is not None and route not in _QUIET:
            self._front.traces.ended(exchange.trace, _ended(method, route, exchange, status, seconds))
            self._metrics.traced(route, status, variant, seconds, exchange.trace.trace_id)

    def _count_caller(self, exchange: Exchange, status: int) -> None:
        key = exchange.key
        if key is not None:
            exchange.notes["caller"], exchange.notes["key"] = key.caller.id, key.id
            self._metrics.caller_answered(key.caller.id, outcome_of(status, exchange))
        elif status == Unauthorized.status:
            self._metrics.caller_answered("none", "unauthorized")


def _ended(method: str, route: str, exchange: Exchange, status: int, seconds: float) -> Ended:
    facts: dict[str, Fact] = {f"ranker.{name}": cast(Fact, value) for name, value in exchange.notes.items()}
    if exchange.decision is not None:
        facts["ranker.variant"] = exchange.decision.variant
    return Ended(
        method, route, status, exchange.began, seconds, exchange.request_id, facts, exchange.stages, exchange.runs
    )


def outcome_of(status: int, exchange: Exchange) -> CallerOutcome:
    """Return what became of a caller's request."""
    if status < 400:
        return "answered"
    if status == OverQuota.status:
        return "over_quota" if exchange.notes.get("code") == OverQuota.code else "overloaded"
    known: CallerOutcome | None = _OUTCOMES.get(status)
    return known or ("failed" if status >= 500 else "refused")


def bucket_headers(decision: Decision, show_bucket: bool) -> Headers:
    """Return X-AB-Bucket, and X-AB-Config if a file is in force."""
    headers = [(b"x-ab-bucket", decision.header(show_bucket).encode())]
    if decision.digest:
        headers.append((b"x-ab-config", f'"{decision.digest}"'.encode()))
    return headers


def undecided_headers(front: Front) -> Headers:
    """Return those headers of an answer to bytes that never became a request."""
    return bucket_headers(front.undecided("error"), show_bucket=True)
