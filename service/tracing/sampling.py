"""Which requests are traced."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_SAMPLED: Final = 1  # of the flags of a traceparent
_HALF: Final = 1 << 64
_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Trace:
    """A request that is traced.

    Attributes:
        trace_id: 32 hexadecimal digits.
        parent_id: of the caller's span, 16 hexadecimal digits; None if the trace begins here.
    """

    trace_id: str
    parent_id: str | None


class Sampler:
    """Chooses requests: those of traced callers, and a share of the others; at most so many per second.

    The choice among the others depends only on the trace id (its last 64 bits are compared with the share), as
    OpenTelemetry's TraceIdRatioBased sampler does.

    Args:
        share: of the requests without a trace context.
        max_per_second: of all requests.
        on_over_limit: called for each request that is not traced because others of the same second were.
    """

    def __init__(self, share: float, max_per_second: int, on_over_limit: Callable[[], None] = lambda: None) -> None:
        self._bound, self._most = int(share * _HALF), max_per_second
        self._on_over_limit = on_over_limit
        self._second, self._taken = 0, 0

    def choose(self, traceparent: bytes | None, request_id: str) -> Trace | None:
        """Return the trace of a request, or None: it is not traced.

        Args:
            traceparent: well formed; None if the caller sent none.
            request_id: becomes the trace id, if it can be one.
        """
        if traceparent is not None:
            if not int(traceparent[53:55], 16) & _SAMPLED:
                return None
            trace = Trace(traceparent[3:35].decode(), traceparent[36:52].decode())
        else:
            if not self._bound:
                return None
            trace_id = request_id if _TRACE_ID.fullmatch(request_id) else os.urandom(16).hex()
            if int(trace_id[16:], 16) >= self._bound:
                return None
            trace = Trace(trace_id, None)
        return trace if self._has_room() else None

    def _has_room(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._taken = second, 0
        self._taken += 1
        if self._taken > self._most:
            self._on_over_limit()
            return False
        return True
