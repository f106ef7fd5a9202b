"""The open loop itself: one thread, raw non-blocking sockets, one request at a time on each."""

from __future__ import annotations

import gc
import random
import select
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

FULL: Final = "full"
_GRACE_SECONDS: Final = 3.0  # for the last answers
_CONNECT_SECONDS: Final = 1.0
_FULL_MARK: Final = b'"degraded":[]'
_HEADS: Final = 5_000  # heads of answers that are kept, for their Server-Timing
_READ: Final = 262_144
_OPENED: Final = 32  # connections that are open before the first request is due

Address = tuple[str, int]
Read = Callable[
    [int, bytes, int], str
]  # the number of a request, its complete answer, the end of the head: the outcome


class Phase(NamedTuple):
    """A period with one mean rate."""

    rate: float
    seconds: float


class Answer(NamedTuple):
    """The outcome of one request."""

    phase: int
    due: float
    late: float  # delay from due to sent, caused by the generator
    seconds: float  # from when it was due
    outcome: str  # "full", "degraded", a status such as "429", or the reason why there was no answer
    number: int = -1  # of the request


@dataclass(slots=True)
class Offered:
    """All answers of a run."""

    answers: list[Answer] = field(default_factory=list)
    began: list[float] = field(default_factory=list)  # of each phase
    heads: list[bytes] = field(default_factory=list)  # of the first full answers
    cpu_seconds: list[float] = field(default_factory=list)  # of this process in each phase

    def latencies(self, phase: int, outcome: str) -> list[float]:
        """Return seconds from when requests were due."""
        return [one.seconds for one in self.answers if one.phase == phase and one.outcome == outcome]

    def counts(self, phase: int) -> Counter[str]:
        """Return how many requests had each outcome."""
        return Counter(one.outcome for one in self.answers if one.phase == phase)


@dataclass(slots=True, eq=False)
class _Connection:
    socket: socket.socket
    request: tuple[int, float, float, int] | None = None  # phase, due, late, number
    received: bytes = b""
    missing: int = 0  # bytes of the answer that have not arrived; 0 before its head is complete


def schedule(phases: Sequence[Phase], draw: random.Random) -> list[tuple[float, int]]:
    """Return when each request is due, in seconds from the start, and its phase: a Poisson process in each phase."""
    found = []
    start = 0.0
    for place, phase in enumerate(phases):
        due = start + draw.expovariate(phase.rate)
        while due < start + phase.seconds:
            found.append((due, place))
            due += draw.expovariate(phase.rate)
        start += phase.seconds
    return found


def outcome_of(answer: bytes, head_end: int) -> str:
    """Return the outcome of a complete answer; a 200 without a reason is full, and so is a peer's 200."""
    status = answer[9:12]
    if status != b"200":
        return status.decode(errors="replace")
    # The reasons come before or after all items.
    degraded = b'"degraded":' in answer and _FULL_MARK not in answer[head_end:]
    return "degraded" if degraded else FULL


def content_length(head: bytes) -> int:
    """Return the length of an answer's body; -1 if the head does not have it."""
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else -1


def has_ended(connection: socket.socket) -> bool:
    """Return whether the server has closed an idle connection."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


class _Loop:
    def __init__(self, address: Address, connections: int, is_kept: bool, read_answer: Read) -> None:
        self.address, self.most, self.is_kept, self.read_answer = address, connections, is_kept, read_answer
        self.selector = selectors.DefaultSelector()
        self.idle: list[_Connection] = []
        self.busy = 0
        self.open: set[_Connection] = set()
        self.offered = Offered()

    def connect(self) -> _Connection | None:
        """Open a connection; None if the server does not take it."""
        try:
            made = socket.create_connection(self.address, timeout=_CONNECT_SECONDS)
        except OSError:
            return None
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        connection = _Connection(made)
        self.selector.register(made, selectors.EVENT_READ, connection)
        self.open.add(connection)
        return connection

    def send(self, request: bytes, phase: int, due: float, number: int) -> None:
        """Send one request on an idle connection, or on a new one."""
        connection = self._idle()
        if connection is None and len(self.open) < self.most:
            connection = self.connect()
            if connection is None:
                return self._note(phase, due, 0.0, number, "not connected")
        if connection is None:
            return self._note(phase, due, 0.0, number, "no connection")
        connection.request = (phase, due, time.perf_counter() - due, number)
        self.busy += 1
        try:
            sent = connection.socket.send(request)
        except OSError:
            sent = 0
        if sent < len(request):
            self._close(connection, "not sent")
        return None

    def _idle(self) -> _Connection | None:
        """Return an idle connection that the server has not closed; HTTP clients also look before they send."""
        while self.idle:
            connection = self.idle[-1]
            if not has_ended(connection.socket):
                return self.idle.pop()
            self._close(connection, "")
        return None

    def read(self, timeout: float) -> None:
        """Wait for answers, at most until the timeout, and count the complete ones."""
        if timeout > 0:  # the selector only supports whole milliseconds
            select.select([self.selector.fileno()], [], [], timeout)
        for key, _ in self.selector.select(0):
            self._read(key.data)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(_READ)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            return self._close(connection, "closed")
        connection.received = connection.received + data if connection.received else data
        if connection.missing:
            connection.missing = max(0, connection.missing - len(data))
            if connection.missing:
                return None
        end = connection.received.find(b"\r\n\r\n")
        if end < 0:
            return None
        length = content_length(connection.received[:end])
        connection.missing = max(0, end + 4 + length - len(connection.received))
        if connection.missing == 0:
            self._answered(connection, end)
        return None

    def _answered(self, connection: _Connection, head_end: int) -> None:
        answer, connection.received = connection.received, b""
        request, connection.request = connection.request, None
        if request is None:  # an answer that no request asked for, such as 408 on an idle connection
            return self._close(connection, "")
        self.busy -= 1
        outcome = self.read_answer(request[3], answer, head_end)
        self._note(*request, outcome)
        if outcome == FULL and len(self.offered.heads) < _HEADS:
            self.offered.heads.append(answer[:head_end])
        if not self.is_kept or b"connection: close" in answer[:head_end].lower():
            return self._close(connection, "")
        self.idle.append(connection)
        return None

    def _note(self, phase: int, due: float, late: float, number: int, outcome: str) -> None:
        self.offered.answers.append(Answer(phase, due, late, time.perf_counter() - due, outcome, number))

    def _close(self, connection: _Connection, why: str) -> None:
        self.open.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        if connection.request is not None:
            self.busy -= 1
            self._note(*connection.request, why)
        with suppress(KeyError, ValueError):
            self.selector.unregister(connection.socket)
        connection.socket.close()

    def close(self) -> None:
        """Count the unanswered requests, and close every connection."""
        for connection in list(self.open):
            self._close(connection, "no answer")
        self.selector.close()


def offer(
    address: Address,
    requests: Sequence[bytes],
    phases: Sequence[Phase],
    draw: random.Random,
    *,
    connections: int = 1_000,
    is_kept: bool = True,
    read_answer: Read = lambda _, answer, head_end: outcome_of(answer, head_end),
    told: threading.Event | None = None,
) -> Offered:
    """Send requests at their moments, over kept connections, and wait for the last answers.

    Args:
        address: host and port.
        requests: complete requests, sent in their order in a cycle.
        phases: rates, one after the other without a pause.
        draw: source of the random moments.
        connections: open at once, at most; a request that finds none free is lost.
        is_kept: whether a connection serves more than one request.
        read_answer: returns the outcome of a complete answer.
        told: ends the run early when it is set.
    """
    loop = _Loop(address, connections, is_kept, read_answer)
    gc.disable()  # a collection would be this loop's own pause
    try:
        return _offered(loop, requests, phases, draw, told or threading.Event())
    finally:
        loop.close()  # counts what has not been answered
        gc.enable()


def _offered(
    loop: _Loop, requests: Sequence[bytes], phases: Sequence[Phase], draw: random.Random, told: threading.Event
) -> Offered:
    moments = schedule(phases, draw)
    loop.idle = [made for _ in range(min(_OPENED, loop.most) if loop.is_kept else 0) if (made := loop.connect())]
    started = time.perf_counter()
    marks: list[float] = []  # processor time at the first request of each phase, and at the end of the last
    loop.offered.began = [started + sum(one.seconds for one in phases[:place]) for place in range(len(phases))]
    for number, (moment, phase) in enumerate(moments):
        if told.is_set():
            break
        due = started + moment
        while (pause := due - time.perf_counter()) > 0:
            loop.read(pause)
        while len(marks) <= phase:
            marks.append(time.process_time())
        loop.send(requests[number % len(requests)], phase, due, number)
        if number % 8 == 0:  # read answers even when it is late
            loop.read(0)
    marks += [time.process_time()] * (len(phases) + 1 - len(marks))
    loop.offered.cpu_seconds = [later - earlier for earlier, later in pairwise(marks)]
    until = time.perf_counter() + _GRACE_SECONDS
    while loop.busy and time.perf_counter() < until:
        loop.read(0.01)
    return loop.offered
