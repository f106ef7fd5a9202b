"""Heads of rankings that have been parsed before: the next request with the same head needs no parser.

A caller's heads are all alike but for the body's length and the request's id and trace. Those two lines are cut out
before a head is looked up, and only in their strictest form, so that what is left out cannot change how a parser would
read the rest. A head that is not known byte for byte goes to the parser.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from service.connection.exchange import Headers, find_header

_END: Final = b"\r\n\r\n"
_LINES: Final = (b"POST /rank HTTP/1.1\r\n", b"POST /v1/rank HTTP/1.1\r\n")
_OWN: Final = re.compile(rb"\r\n(x-request-id|traceparent): ([!-~]+)(?=\r\n)", re.IGNORECASE)
_OWN_NAMES: Final = frozenset({b"x-request-id", b"traceparent"})
_MAX_BYTES: Final = 1_024
_MAX_HEADS: Final = 4_096


class Request(NamedTuple):
    """A whole request."""

    headers: Headers
    budget_seconds: float
    body_at: int


class _Known(NamedTuple):
    request: Request  # of a head without lines of its own
    size: int  # of the body


class KnownHeads:
    """See the module.

    Args:
        max_lines: header lines of a request.
    """

    def __init__(self, max_lines: int) -> None:
        self._max_lines = max_lines
        self._known: dict[bytes, _Known] = {}

    def find(self, data: bytes) -> Request | None:
        """Return what some bytes are if they are one whole request with a known head; None: ask the parser."""
        end = data.find(_END, 0, _MAX_BYTES)
        if end < 0:
            return None
        known = self._known.get(data[: end + 2])
        if known is None:
            return self._with_own_lines(data, end)
        return known.request if len(data) == known.request.body_at + known.size else None

    def _with_own_lines(self, data: bytes, end: int) -> Request | None:
        head = data[: end + 2]
        own: Headers = [(name.lower(), value) for name, value in _OWN.findall(head)]
        known = self._known.get(_OWN.sub(b"", head)) if own else None
        if known is None or len(data) != end + 4 + known.size:
            return None
        headers = known.request.headers
        if len(own) != len(dict(own)) or len(headers) + len(own) > self._max_lines:
            return None
        return Request([*headers, *own], known.request.budget_seconds, end + 4)

    def note(self, data: bytes, headers: Headers, budget_seconds: float) -> None:
        """Remember the head of a request that was parsed and may go the short way, if the bytes are all of it.

        Args:
            data: where the parser began with the request.
            headers: what it made of them.
            budget_seconds: what the headers give the request.
        """
        end = data.find(_END, 0, _MAX_BYTES)
        size = int(find_header(headers, b"content-length") or b"0")
        if not data.startswith(_LINES) or len(data) != end + 4 + size:
            return
        head, own = _OWN.subn(b"", data[: end + 2])
        kept = [(name, value) for name, value in headers if name not in _OWN_NAMES]
        if len(kept) + own != len(headers):
            return
        if len(self._known) >= _MAX_HEADS:
            self._known.clear()
        self._known[head] = _Known(Request(kept, budget_seconds, len(head) + 2), size)
