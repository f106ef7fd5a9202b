"""The state of one request, from its first byte to the last byte of its answer."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Final, TypedDict

from contract.experiments.decision import Decision
from service.access.callers import Key
from service.errors import InvalidRequest
from service.flow.gate import Place
from service.tracing.run import ModelRun
from service.tracing.sampling import Trace

EXCHANGE: Final = "ranker.exchange"  # in the scope
REFUSED: Final = "ranker.refused"  # in the scope: the status with which the protocol has ended the request
WAITED: Final = "ranker.waited"  # in the scope: seconds that the request waited in the kernel before it was read
CLIENT_GONE: Final = 499  # only in metrics and logs: the caller disconnected before the answer

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:+/=@-]{0,127}")
_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_DEADLINE: Final = re.compile(rb"[0-9]{1,9}")

_NO_STAGES: Final[Mapping[str, float]] = {}
_DRAWN: Final = 256
_RANDOM: Final[list[str]] = []

Headers = list[tuple[bytes, bytes]]


class Notes(TypedDict, total=False):
    """Further facts for the access line (service/output/access_log.py)."""

    model: str
    candidates: int
    degraded: Sequence[str]
    code: str
    caller: str
    key: str  # id of the API key


class Exchange:
    """The state of one request."""

    __slots__ = (
        "arrived",
        "began",
        "body",
        "decision",
        "headers",
        "is_ranking",
        "is_shed",
        "key",
        "notes",
        "place",
        "request_headers",
        "request_id",
        "runs",
        "stages",
        "trace",
        "traceparent",
    )

    def __init__(self, request_headers: Headers, arrived: float) -> None:
        self.request_headers = request_headers
        self.arrived = arrived  # event loop time at which it could have been read, for deadlines
        self.began = time.perf_counter()  # for durations: uvloop's clock has only milliseconds
        self.request_id = request_id_of(request_headers)
        self.traceparent = traceparent_of(request_headers)
        self.body: bytes | None = None  # once it has been read
        self.decision: Decision | None = None
        self.key: Key | None = None  # of its caller, if callers have keys
        self.is_ranking = False
        self.place: Place | None = None  # at the gate
        self.is_shed = False  # refused at the gate: counted but not logged, because logging costs more than refusing
        self.headers: Headers = []  # of the answer, beside those that every answer has
        self.notes: Notes = {}  # for the access line
        self.trace: Trace | None = None  # if it is traced
        self.stages: Mapping[str, float] = _NO_STAGES  # of a ranking that is traced: seconds by name
        self.runs: Sequence[ModelRun] = ()  # of the models, that it joined

    @property
    def trace_id(self) -> str | None:
        """Return the trace id for the log: of the request's trace, or else of the caller's."""
        if self.trace is not None:
            return self.trace.trace_id
        return self.traceparent[3:35].decode() if self.traceparent else None

    def leave(self) -> None:
        """Leave the gate, if the request is inside one."""
        if self.place is not None:
            self.place.leave()

    def count_candidates(self, count: int) -> None:
        """Count the candidates of a ranking in its caller's quota."""
        if self.key is not None:
            self.key.caller.meter.count("candidates", count)

    def header(self, name: bytes) -> str | None:
        """Return the first value of a request header, or None."""
        value = find_header(self.request_headers, name)
        return value.decode("latin-1") if value is not None else None

    def deadline(self, default_ms: int, longest_ms: int) -> float:
        """Return the event loop time after which the answer is not needed.

        Raises:
            InvalidRequest: X-Deadline-Ms is not a whole number.
        """
        return self.arrived + budget_of(self.request_headers, default_ms, longest_ms)


def budget_of(headers: Headers, default_ms: int, longest_ms: int) -> float:
    """Return the seconds that a request may take.

    Raises:
        InvalidRequest: X-Deadline-Ms is not a whole number.
    """
    value = find_header(headers, b"x-deadline-ms")
    if value is not None and not _DEADLINE.fullmatch(value):
        raise InvalidRequest("must be a whole number of milliseconds", field="X-Deadline-Ms")
    wanted_ms = default_ms if value is None else int(value)
    return min(max(wanted_ms, 1), longest_ms) / 1000


def find_header(headers: Headers, name: bytes) -> bytes | None:
    """Return the first value of a header, its name in lower case, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def new_request_id() -> str:
    """Return 128 random bits in hexadecimal."""
    if not _RANDOM:  # the kernel is asked once for many
        bits = os.urandom(16 * _DRAWN).hex()
        _RANDOM.extend([bits[start : start + 32] for start in range(0, 32 * _DRAWN, 32)])
    return _RANDOM.pop()


def request_id_of(headers: Headers) -> str:
    """Return the first X-Request-Id that is valid for headers and logs, or a new one."""
    for key, value in headers:
        if key == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode()
    return new_request_id()


def traceparent_of(headers: Headers) -> bytes | None:
    """Return the trace context of a request if it is well formed, else None."""
    value = find_header(headers, b"traceparent")
    return value if value is not None and _TRACEPARENT.fullmatch(value) else None
