"""The end of every answer, for both ways of a request: common headers, refusals, counts, and the access line."""

from __future__ import annotations

import time
from typing import Final, Literal, Protocol

from contract.experiments.decision import Decision
from service.connection.exchange import Exchange, Headers
from service.errors import RankerError, TooLarge
from service.flow.admission import Admission
from service.http.cors import Cors
from service.metrics import Metrics
from service.output.access_log import AccessLog
from service.settings.root import Settings

_QUIET: Final = frozenset({"/health/live", "/health/ready", "/metrics"})
_PERSONAL: Final = (b"cache-control", b"private, no-store")


class Front(Protocol):
    """The service's state, for the HTTP layer."""

    @property
    def is_draining(self) -> bool:
        """Return whether the service is about to stop."""

    @property
    def admission(self) -> Admission:
        """Return the gates and turns."""

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
        self.cors = Cors(settings.http.cors_origins)

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
            headers.append(_PERSONAL)
        if exchange.traceparent is not None:
            headers.append((b"traceparent", exchange.traceparent))
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
        if isinstance(error, TooLarge) and error.field is None:
            headers.append((b"connection", b"close"))  # the rest of the body is not read
        return headers, body

    def finish(self, method: str, route: str, exchange: Exchange, status: int) -> None:
        """Count an answer and write its access line."""
        seconds = time.perf_counter() - exchange.began
        variant = exchange.decision.variant if exchange.decision is not None else "none"
        self._metrics.request_finished(route, status, variant, seconds)
        if not exchange.is_shed and (status >= 400 or route not in _QUIET):
            trace_id = exchange.traceparent[3:35].decode() if exchange.traceparent else None
            self._front.access.request(
                exchange.request_id, method, route, status, seconds, variant, trace_id, **exchange.notes
            )


def bucket_headers(decision: Decision, show_bucket: bool) -> Headers:
    """Return X-AB-Bucket, and X-AB-Config if a file is in force."""
    headers = [(b"x-ab-bucket", decision.header(show_bucket).encode())]
    if decision.digest:
        headers.append((b"x-ab-config", f'"{decision.digest}"'.encode()))
    return headers
