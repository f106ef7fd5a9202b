"""The rankings of a connection: taken or refused around ASGI where nothing about them is unusual.

There are three ways. A whole request whose head is known (service/connection/heads.py) needs no parser. One that has
been parsed needs no scope, task or future. All others go the long way, through uvicorn and the application.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.connection.answering import AnsweringProtocol, Guard
from service.connection.exchange import Headers
from service.connection.lane import Lane, LaneCall
from service.connection.transport import LAST_LOOK_SECONDS

_MAX_PARTS: Final = 64  # of a body on the short way: many small ones come slowly


class RankingProtocol(AnsweringProtocol):
    """See the module; an abstract part, which service/connection/protocol.py makes whole.

    Args:
        guard: limits, counts, and the short way.
        parts: what uvicorn hands to a protocol.
    """

    def __init__(self, guard: Guard, **parts: Any) -> None:  # Any: uvicorn's own arguments, passed through
        super().__init__(guard, **parts)
        self._in_head = self._in_body = False
        self._is_upgrading = False
        self._waited = 0.0  # seconds that the beginning of this request lay in the kernel
        self._parts: list[bytes] | None = None  # of the body of a ranking that may go the short way
        self._is_usual = False  # the last head that was parsed may go the short way
        self._began = self._arrived = 0.0  # by the clocks of durations and of the event loop
        self._budget = 0.0  # seconds that the ranking may take
        self._used_at = 0.0  # event loop time of the last answer of the short way

    @abstractmethod
    def _is_last(self) -> bool:
        """Return whether nothing is to be written after the answer in progress."""

    @abstractmethod
    def _await(self, what: str) -> None:
        """Give the head or the body of a request only so long; "" waits for neither."""

    def answer(self, call: LaneCall, content: bytes) -> None:
        """Write the answer of a ranking that went the short way."""
        self._call = None
        call.response_complete = True
        if self.transport.is_closing():
            return
        self.transport.write(content)
        if call.keep_alive and self._is_last():
            self._stay_alive()
            return
        if not call.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; one that was used since the timer began gets another."""
        left = self._used_at + self.timeout_keep_alive - self.loop.time()
        if self._call is not None:
            self.timeout_keep_alive_task = None  # its answer begins the next one
        elif left > 0:
            self._keep_alive_for(left)
        elif not self.transport.is_closing() and self._wire.has_bytes():  # a request that is not read yet
            self._keep_alive_for(LAST_LOOK_SECONDS)
        else:
            super().timeout_keep_alive_handler()

    # --- without a parser

    def _goes_without_parser(self, data: bytes) -> bool:
        """Rank or refuse a whole request whose head is known; say whether it was one."""
        lane = self._guard.lane
        if lane is None or self._is_busy():
            return False
        request = self._guard.heads.find(data)
        if request is None:
            return False
        content = lane.refusal(request.headers, request.budget_seconds)
        if content is not None:
            self.transport.write(content)
            self._await("")
            self._stay_alive()
            return True
        self._waited, self._budget = self._waited_seconds(), request.budget_seconds
        self._began, self._arrived = time.perf_counter(), self.loop.time() - self._waited
        self._await("")
        return self._has_taken(lane, request.headers, data[request.body_at :])

    def _is_busy(self) -> bool:
        return (
            self._in_head
            or self._in_body
            or self.flow.write_paused
            or (self.cycle is not None and not self.cycle.response_complete)
        )

    def _waited_seconds(self) -> float:
        """Return how long the beginning of a request lay in the kernel; the kernel is asked only after a long pass."""
        return self._wire.waited_seconds() if self._guard.pulse.is_behind(self.loop.time()) else 0.0

    def _stay_alive(self) -> None:
        """Keep the connection open, without a new timer for each answer."""
        self._used_at = self.loop.time()
        self.server_state.total_requests += 1
        if self.timeout_keep_alive_task is None:
            self._keep_alive_for(self.timeout_keep_alive)

    def _keep_alive_for(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    # --- with one

    def _may_go_the_short_way(self) -> bool:
        return (
            self._guard.lane is not None
            and self.url == b"/rank"
            and not self._is_upgrading
            and not self.flow.write_paused
            and (self.cycle is None or self.cycle.response_complete)
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and self._guard.lane.suits(self.headers)
        )

    def _begin_the_short_way(self) -> None:
        lane = self._guard.lane
        self._parts, self._is_usual = [], True
        self._budget = lane.budget(self.headers) if lane is not None else 0.0
        self._began, self._arrived = time.perf_counter(), self.loop.time() - self._waited

    def _has_kept(self, body: bytes) -> bool:
        """Keep a part of the body for the short way; say whether it was."""
        if self._parts is None:
            return False
        self._parts.append(body)
        if len(self._parts) > _MAX_PARTS:
            self._go_the_long_way()
        return True

    def _has_gone_the_short_way(self) -> bool:
        """Rank or refuse a whole request; say whether it may go the short way, else begin the long one."""
        lane = self._guard.lane
        if lane is None or self._parts is None:
            return False
        content = lane.refusal(self.headers, self._budget)
        if content is not None:
            self._parts = None
            self.transport.write(content)
            self.on_response_complete()
            return True
        if self._has_taken(lane, self.headers, b"".join(self._parts)):
            self._parts = None
            return True
        self._go_the_long_way()
        return False

    def _has_taken(self, lane: Lane, headers: Headers, body: bytes) -> bool:
        call = lane.take(self, headers, body, self._budget, self._arrived, self._began, self._waited)
        if call is None:
            return False
        self.cycle = cast(RequestResponseCycle, call)
        self._call = None if call.response_complete else call
        return True

    def _go_the_long_way(self) -> None:
        """Begin the request as uvicorn does, with what there is of its body."""
        if self._parts is None:
            return
        parts, self._parts = self._parts, None
        super().on_headers_complete()
        for part in parts:
            super().on_body(part)
