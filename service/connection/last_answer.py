"""The answer of a connection to bytes that never became a request: the last one, after which it is closed."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.connection.exchange import Headers, new_request_id
from service.errors import RankerError


def last_answer(error: RankerError, common: Headers, *, has_body: bool) -> bytes:
    """Return its bytes.

    Args:
        error: what was wrong with those bytes.
        common: headers that every answer has, but for the request's id.
        has_body: whether the body is sent; the answer to HEAD has none.
    """
    request_id = new_request_id()
    body = error.body(request_id)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        (b"x-request-id", request_id.encode()),
        *common,
    ]
    lines = b"".join([name + b": " + value + b"\r\n" for name, value in headers])
    return STATUS_LINE[error.status] + lines + b"\r\n" + (body if has_body else b"")
