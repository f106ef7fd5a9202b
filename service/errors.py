"""Every error a caller can meet, and the one place that renders them.

    RankerError
    ├── InvalidRequest      422 invalid_request      values that cannot be used; the field is named
    │   ├── Malformed       400                      not JSON, not HTTP, a broken body
    │   ├── UnsupportedMedia 415                     another content type, a coding that is not gzip
    │   ├── HeadersTooLarge 431                      too many or too long header lines
    │   └── ReceiveTimeout  408                      a request that does not arrive
    ├── Unauthorized        401 unauthorized         no API key in force; WWW-Authenticate
    ├── Forbidden           403 forbidden            a key without the scope of the path
    ├── NotFound            404 not_found
    ├── MethodNotAllowed    405 method_not_allowed
    ├── NotImplementedHere  501 not_implemented      a part of HTTP that this service does not have
    ├── TooLarge            413 too_large            body or list over its limit
    ├── Overloaded          429 overloaded           no permit, or queue full; Retry-After
    ├── OverQuota           429 over_quota           the caller's own quota is used up; Retry-After
    ├── InternalError       500 internal_error       a bug that no other class describes
    ├── InferenceFailed     500 inference_failed     engine error or non-finite scores
    ├── NotReady            503 not_ready            loading, draining, no bundle; Retry-After
    ├── StoreDown           503 store_unavailable    behaviours could not be stored; Retry-After
    └── DeadlineExceeded    504 deadline_exceeded    no answer in time

Messages contain nothing that a client sent, except a field's name, cut to 64 characters.
"""

# ruff: noqa: N818 - the names read as states, and the whole tree is in this file
from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, NamedTuple

import orjson

MAX_SHOWN: Final = 64
MAX_DETAILS: Final = 8
MAX_BODY_BYTES: Final = 2_048
CALLER_GONE: Final = "the caller has hung up"  # reason for cancelling a request's task


class Detail(NamedTuple):
    """One field that cannot be used, and why."""

    field: str
    message: str


class StartError(RuntimeError):  # no answer to a caller: it ends the process
    """The service cannot start; the message names the remedy."""


class RankerError(Exception):
    """An error that is sent to the caller.

    Args:
        message: for people; one of our sentences.
        field: the field it is about, as the caller named it.
        retry_after: seconds after which to try again.
        details: further fields.
        headers: of the answer, beside those that every answer has.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    default_message: ClassVar[str] = ""
    default_retry_after: ClassVar[int | None] = None

    def __init__(
        self,
        message: str | None = None,
        *,
        field: str | None = None,
        retry_after: int | None = None,
        details: Sequence[Detail] = (),
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.message = message or self.default_message
        self.field = field
        self.retry_after = self.default_retry_after if retry_after is None else retry_after
        self.details, self.headers = tuple(details), tuple(headers)
        super().__init__(self.message)

    def body(self, request_id: str) -> bytes:
        """Return the JSON of the answer, at most 2 KiB."""
        error: dict[str, object] = {"code": self.code, "message": self.message, "request_id": request_id}
        if self.field is not None:
            error["field"] = shown(self.field)
        details = [{"field": shown(field), "message": message} for field, message in self.details[:MAX_DETAILS]]
        while details:
            content = orjson.dumps({"error": {**error, "details": details}})
            if len(content) <= MAX_BODY_BYTES:
                return content
            details.pop()
        return orjson.dumps({"error": error})


class InvalidRequest(RankerError):
    """Values that cannot be used."""

    code, status = "invalid_request", 422
    default_message = "The request contains a value that cannot be used."


class Malformed(InvalidRequest):
    """Bytes that are not a request."""

    status = 400
    default_message = "The body is not valid JSON."


class UnsupportedMedia(InvalidRequest):
    """A body in another format or coding."""

    status = 415
    default_message = "The body must be JSON: Content-Type application/json, and Content-Encoding gzip or none."


class HeadersTooLarge(InvalidRequest):
    """Too many header lines, or too long."""

    status = 431
    default_message = "The request's headers are too large."


class ReceiveTimeout(InvalidRequest):
    """The request did not arrive in time."""

    status = 408
    default_message = "The request did not arrive in time."


class Unauthorized(RankerError):
    """No API key, or one that is not in force."""

    code, status = "unauthorized", 401
    default_message = "The API key is not known."


class Forbidden(RankerError):
    """An API key that may do other things."""

    code, status = "forbidden", 403
    default_message = "The API key lacks the scope of this path."


class NotFound(RankerError):
    """No such route."""

    code, status = "not_found", 404
    default_message = "There is no such route."


class MethodNotAllowed(RankerError):
    """A route with other methods."""

    code, status = "method_not_allowed", 405
    default_message = "The route does not know this method."


class NotImplementedHere(RankerError):
    """A part of HTTP that this service does not have."""

    code, status = "not_implemented", 501
    default_message = "The service does not have this part of HTTP."


class TooLarge(RankerError):
    """A body or a list over its limit."""

    code, status = "too_large", 413
    default_message = "The request is too large."


class Overloaded(RankerError):
    """No permit, or a full queue."""

    code, status = "overloaded", 429
    default_message = "The service has as much work as it can do."
    default_retry_after = 1


class OverQuota(RankerError):
    """The caller has used up its own quota; others are not affected."""

    code, status = "over_quota", 429
    default_message = "The caller's quota is used up."
    default_retry_after = 1


class InternalError(RankerError):
    """A bug; the log has more under the request id."""

    code, status = "internal_error", 500
    default_message = "The service failed on this request."


class InferenceFailed(RankerError):
    """The model failed on this request."""

    code, status = "inference_failed", 500
    default_message = "The model failed on this request."


class NotReady(RankerError):
    """Loading, draining, or without a bundle."""

    code, status = "not_ready", 503
    default_message = "The service is not ready."
    default_retry_after = 1


class StoreDown(RankerError):
    """Behaviours could not be stored; sending them again is safe."""

    code, status = "store_unavailable", 503
    default_message = "The behaviours were not stored; sending them again is safe."
    default_retry_after = 1


class DeadlineExceeded(RankerError):
    """No answer in time."""

    code, status = "deadline_exceeded", 504
    default_message = "The deadline passed."


def shown(text: str) -> str:
    """Return at most 64 characters of a caller's text, all of them printable."""
    return "".join([character if character.isprintable() else "?" for character in text[:MAX_SHOWN]])
