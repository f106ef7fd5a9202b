"""The access line: one log line for each request, made without structlog's chain of functions.

The line is the one that structlog would write for the same values (tests/unit/service/output/test_access_log.py).
structlog itself writes it where that takes more than joining values: text for people, values that are too long, and
characters outside ASCII.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog

from service.output.line_writer import LineWriter

_LONGEST: Final = 2_000  # bytes; service/log.py cuts longer values


class AccessLog:
    """Writes access lines; never waits and never raises.

    Args:
        writer: takes lines of JSON; None has structlog write them, as it is configured.
        is_on: whether lines are written at all.
        worker: number of this worker, if there are several; structlog is configured to add it itself.
    """

    def __init__(self, writer: LineWriter | None = None, *, is_on: bool = True, worker: int | None = None) -> None:
        self._writer, self.is_on = writer, is_on
        self._more: dict[str, Any] = {} if worker is None else {"worker": worker}

    def request(
        self,
        request_id: str,
        method: str,
        route: str,
        status: int,
        seconds: float,
        variant: str,
        trace_id: str | None = None,
        *,
        model: str | None = None,
        candidates: int | None = None,
        degraded: Sequence[str] = (),
        code: str | None = None,
        caller: str | None = None,
        key: str | None = None,
    ) -> None:
        """Write the line of one request; the keyword arguments are left out where they say nothing.

        Args:
            request_id: of the answer's X-Request-Id.
            method: of the request.
            route: template of the route, or `none`.
            status: of the answer.
            seconds: from the request's headers to the end of the answer.
            variant: arm of the layer that decides the model.
            trace_id: of the request's traceparent.
            model: that answered, `name@version`.
            candidates: of the ranking.
            degraded: what the answer went without.
            code: of the error.
            caller: id of the caller, if callers have API keys.
            key: id of the caller's API key.
        """
        if not self.is_on:
            return
        fields: dict[str, Any] = {
            "request_id": request_id, "method": method, "route": route, "status": status,
            "duration_ms": round(seconds * 1000, 3), "variant": variant,
        }  # fmt: skip
        if trace_id is not None:
            fields["trace_id"] = trace_id
        if model is not None:
            fields["model"] = model
        if candidates is not None:
            fields["candidates"] = candidates
        if degraded:
            fields["degraded"] = degraded
        if code is not None:
            fields["code"] = code
        if caller is not None:
            fields["caller"], fields["key"] = caller, key
        self._write(fields)

    def _write(self, fields: dict[str, Any]) -> None:
        line = _plain_line(fields, self._more) if self._writer is not None else None
        if line is not None and self._writer is not None:
            self._writer.put(line)
        else:
            structlog.get_logger(__name__).info("request", **fields)


def _plain_line(fields: dict[str, Any], more: dict[str, Any]) -> bytes | None:
    """Return the line, or None where only structlog gets it right."""
    own = fields | {"event": "request", "level": "info", "timestamp": datetime.now(UTC)}
    try:
        line = orjson.dumps(own | more if more else own, option=orjson.OPT_UTC_Z)
    except TypeError:  # a lone surrogate
        return None
    return line if len(line) <= _LONGEST and line.isascii() else None
