"""Answers whose bytes are ready but for what differs from one request to the next.

A refusal differs by the request's id and trace: under overload, refusals are most of the load. A ranking differs by its
list too, by the user's arm, and by the time that its stages took.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from contract.experiments.decision import Decision
from service.connection.exchange import Exchange
from service.errors import RankerError
from service.http import rank_answer
from service.http.endings import Endings
from service.ranking.answer import Ranking

_MARK: Final = "~"  # no request id has one
_MAX_FORMATS: Final = 1_000
_Key = tuple[str, str, str, tuple[str, ...]]  # what else an answer depends on: digest, model, version, degraded
_OPEN: Final = {b"content-length": b"%d", b"x-request-id": b"%b", b"x-ab-bucket": b"%b", b"server-timing": b"%b"}


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


class _Format(NamedTuple):
    """An answer with a place for each text that differs."""

    text: bytes
    body_bytes: int  # of the body without those texts


class PreparedAnswer:
    """The answer of a ranking, as the middleware answers it to a request without an Origin, on an open connection.

    Args:
        endings: the headers that every answer has.
        show_bucket: whether X-AB-Bucket shows the user's place.
    """

    def __init__(self, endings: Endings, show_bucket: bool) -> None:
        self._endings, self._show_bucket = endings, show_bucket
        self._formats: dict[_Key, _Format] = {}

    def answer(self, exchange: Exchange, decision: Decision, ranking: Ranking) -> bytes:
        """Return the bytes of one answer."""
        key = (decision.digest, ranking.model, ranking.version, ranking.degraded)
        prepared = self._formats.get(key) or self._prepare(key, decision, ranking)
        request_id = exchange.request_id.encode()
        parameters, rest = orjson.dumps(decision.parameters), rank_answer.rank_rest(ranking)
        return prepared.text % (
            prepared.body_bytes + len(request_id) + len(parameters) + len(rest),
            request_id,
            decision.header(self._show_bucket).encode(),
            rank_answer.server_timing(ranking.timings),
            self._own_lines(exchange),
            request_id,
            parameters,
            rest,
        )

    def _own_lines(self, exchange: Exchange) -> bytes:
        """Return the header lines that only some requests have."""
        trace = exchange.traceparent
        return b"" if trace is None else b"traceparent: %b\r\n" % trace

    def _prepare(self, key: _Key, decision: Decision, ranking: Ranking) -> _Format:
        exchange = Exchange([], 0.0)
        exchange.is_ranking, exchange.decision = True, decision
        exchange.headers = rank_answer.rank_headers(ranking)
        headers = [*rank_answer.body_headers(0), *self._endings.headers(exchange)]
        lines = [b"%b: %b\r\n" % (name, _OPEN.get(name, _literal(value))) for name, value in headers]
        model = rank_answer.rank_model(ranking)
        if len(self._formats) >= _MAX_FORMATS:
            self._formats.clear()
        prepared = self._formats[key] = _Format(
            b"".join([STATUS_LINE[200], *lines, b"%b\r\n", b'{"request_id":"%b"', _literal(model), b"%b%b"]),
            len(b'{"request_id":""') + len(model),
        )
        return prepared


def _literal(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")
