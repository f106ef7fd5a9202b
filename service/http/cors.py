"""Cross-origin requests: which pages of other origins may call this service from a browser (the Fetch standard)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from service.connection.exchange import Headers, find_header

_ANY: Final = b"*"
_EXPOSED: Final = b"X-Request-Id, X-AB-Bucket, X-AB-Config, X-Model, Server-Timing, Retry-After, traceparent"
_PREFLIGHT: Final = [
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (
        b"access-control-allow-headers",
        b"Content-Type, Content-Encoding, X-Request-Id, X-Deadline-Ms, X-AB-Override, traceparent",
    ),
    (b"access-control-max-age", b"600"),
]
_WITH_KEYS: Final = {b"access-control-allow-headers": b", Authorization"}
_VARY: Final = (b"vary", b"Origin")


class Cors:
    """Tells browsers what pages of other origins may do.

    Args:
        origins: allowed ones as a browser sends them, or `*` for all.
        takes_keys: whether callers have API keys.
    """

    def __init__(self, origins: Sequence[str], takes_keys: bool = False) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._preflight = [(name, value + _WITH_KEYS.get(name, b"") * takes_keys) for name, value in _PREFLIGHT]
        self._exposed = _EXPOSED + (b", RateLimit-Policy, RateLimit, WWW-Authenticate" if takes_keys else b"")

    def headers(self, request: Headers) -> Headers:
        """Return an answer's headers for a browser; caches must not mix answers to different origins."""
        if not self._origins:
            return []
        if _ANY in self._origins:
            return [(b"access-control-allow-origin", _ANY), (b"access-control-expose-headers", self._exposed)]
        origin = find_header(request, b"origin")
        if origin is None or origin not in self._origins:
            return [_VARY]
        return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", self._exposed), _VARY]

    def preflight(self, method: str, request: Headers) -> Headers | None:
        """Return the answer to a browser that asks whether a page may send a request; None for any other request."""
        if not self._origins or method != "OPTIONS" or find_header(request, b"access-control-request-method") is None:
            return None
        origin = find_header(request, b"origin")
        is_allowed = origin is not None and (_ANY in self._origins or origin in self._origins)
        return self._preflight if is_allowed else None
