"""A refusal whose bytes are ready but for the request's id and trace: under overload, refusals are most of the load."""

from __future__ import annotations

from typing import Final, NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.connection.exchange import Exchange
from service.errors import RankerError
from service.http.endings import Endings

_MARK: Final = "~"  # no request id has one


class _Pieces(NamedTuple):
    """An answer, cut where the request's id and its trace go."""

    to_id: bytes
    to_trace: bytes
    to_id_in_body: bytes
    rest: bytes


class PreparedRefusal:
    """A refusal of a ranking, as the middleware answers it to a request without an Origin.

    Args:
        error: the refusal.
        endings: the headers that every answer has.
    """

    def __init__(self, error: RankerError, endings: Endings) -> None:
        self._error, self._endings = error, endings
        self._by_length: dict[int, _Pieces] = {}  # of the request's id: the body's length is in the headers

    def answer(self, request_id: bytes, traceparent: bytes | None) -> bytes:
        """Return the bytes of one answer."""
        length = len(request_id)
        pieces = self._by_length.get(length) or self._prepare(length)
        trace = b"traceparent: %b\r\n" % traceparent if traceparent is not None else b""
        return b"".join((
            pieces.to_id, request_id, pieces.to_trace, trace, pieces.to_id_in_body, request_id, pieces.rest
        ))  # fmt: skip

    def _prepare(self, length: int) -> _Pieces:
        exchange = Exchange([], 0.0)
        exchange.request_id, exchange.is_ranking = _MARK * length, True
        headers, body = self._endings.refusal(self._error, exchange.request_id)
        lines = [b"%b: %b\r\n" % header for header in [*headers, *self._endings.headers(exchange)]]
        content = b"".join([STATUS_LINE[self._error.status], *lines, b"\r\n", body])
        to_id, rest, after = content.split(exchange.request_id.encode())
        to_trace, to_id_in_body = rest.split(b"\r\n\r\n")
        pieces = _Pieces(to_id, to_trace + b"\r\n", b"\r\n" + to_id_in_body, after)
        self._by_length[length] = pieces
        return pieces
