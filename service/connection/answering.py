"""The answering half of a connection: one request after the other, only as fast as the caller reads.

uvicorn keeps unread answers without a time limit, works on the next request meanwhile, and treats a caller that has
finished sending as disconnected.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.connection.exchange import CLIENT_GONE, REFUSED, Headers
from service.connection.heads import KnownHeads
from service.connection.lane import Lane, LaneCall
from service.connection.readers import SlowReaders
from service.connection.transport import GuardedTransport
from service.errors import CALLER_GONE
from service.metrics import Metrics
from service.settings.http import HttpSettings
from service.settings.limits import LimitsSettings

FIRST_LOOK_SECONDS: Final = 0.001  # for a caller who has closed, doubled each time
_HELD_UP_SECONDS: Final = 0.009  # a shorter wait counts as none (transport.py); uvloop's clock has milliseconds
_CATCH_UP_SECONDS: Final = 0.5
_LONGEST_LOOK_SECONDS: Final = 0.1


class Pulse:
    """Notices when the event loop was held up: then requests may have lain in the kernel for a while.

    uvloop sets its clock once in each pass, so two passes that are close together cannot have left anything unread.
    After a long pass it takes some time to accept and read what has come meanwhile.
    """

    def __init__(self) -> None:
        self._pass = self._behind_until = 0.0

    def is_behind(self, now: float) -> bool:
        """Return whether a request that is read now may have waited; to be asked for each.

        Args:
            now: event loop time.
        """
        if now - self._pass >= _HELD_UP_SECONDS:
            self._behind_until = now + _CATCH_UP_SECONDS
        self._pass = now
        return now <= self._behind_until


@dataclass(frozen=True, slots=True)
class Guard:
    """The parts that all connections share."""

    http: HttpSettings
    limits: LimitsSettings
    metrics: Metrics
    headers: Callable[[], Headers]  # of an answer to something that never became a request
    lane: Lane | None = None  # the short way of rankings
    counts: bool = True  # whether its connections are those of the metric
    makes_room: bool = False  # whether one too many ends the one that has waited longest, instead of being refused
    heads: KnownHeads = field(init=False)
    readers: SlowReaders = field(init=False)
    pulse: Pulse = field(default_factory=Pulse)

    def __post_init__(self) -> None:
        """Create the shared parts."""
        object.__setattr__(self, "heads", KnownHeads(self.limits.max_header_lines))
        object.__setattr__(self, "readers", SlowReaders(self.http.max_unsent_bytes))

    def count(self, connections: int) -> None:
        """Note how many connections are open."""
        if self.counts:
            self.metrics.connections(connections)


class AnsweringProtocol(HttpToolsProtocol):
    """See the module; an abstract half, completed by service/connection/protocol.py.

    Args:
        guard: limits, counts.
        parts: uvicorn's arguments for a protocol.
    """

    def __init__(self, guard: Guard, **parts: Any) -> None:  # Any: uvicorn's arguments, passed through
        super().__init__(**parts)
        self._guard = guard
        self._task: asyncio.Task[None] | None = None
        self._running: RequestResponseCycle | None = None
        self._call: LaneCall | None = None  # a ranking that goes the short way
        self._held: tuple[RequestResponseCycle, ASGI3Application] | None = None  # until the answer before it is read
        self._write_timer: asyncio.TimerHandle | None = None
        self._look_timer: asyncio.TimerHandle | None = None  # at a caller who has finished sending

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection."""
        transport.set_write_buffer_limits(high=0)  # every unsent byte has a time limit
        self._wire = GuardedTransport(transport, self)
        super().connection_made(cast(asyncio.Transport, self._wire))

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop working for a caller that has disconnected."""
        self._taken()
        if self._look_timer is not None:
            self._look_timer.cancel()
        super().connection_lost(exc)
        self._guard.count(len(self.connections))
        for _ in range(len(self.pipeline) + (self._held is not None)):
            self._guard.metrics.refused_by_protocol(CLIENT_GONE)
        self.pipeline.clear()
        self._held = None
        if self._call is not None:
            self._call.disconnected = True
            self._call.abandon()
            self._call = None
        if self._task is not None and self._running is not None and not self._running.response_complete:
            cast(dict[str, Any], self._running.scope).setdefault(REFUSED, CLIENT_GONE)
            self._running.disconnected = True
            self._task.cancel(CALLER_GONE)

    def pause_writing(self) -> None:
        """Limit the time and the memory for a caller that does not read."""
        super().pause_writing()
        self._guard.readers.add(self, self._wire.get_write_buffer_size())
        self._write_timer = self.loop.call_later(self._guard.http.write_timeout_ms / 1000, self.cut_off)

    def resume_writing(self) -> None:
        """Continue writing, and answer the request that has waited for it."""
        self._taken()
        super().resume_writing()
        if self._held is not None:
            held, self._held = self._held, None
            self._start_asgi_task(*held)

    def cut_off(self) -> None:
        """End the connection of a caller that does not read."""
        self._guard.metrics.connection_refused("slow_reader")
        self.transport.abort()

    @property
    @abstractmethod
    def is_lingering(self) -> bool:
        """Return whether all is answered, and further bytes are discarded."""

    @abstractmethod
    def close_when_read(self, transport: asyncio.Transport) -> None:
        """Close as soon as the caller can have read the answer."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Start to answer a request, or wait until the previous answer has been read."""
        if self.flow.write_paused:
            self._held = (cycle, app)
            self.flow.pause_reading()
            return
        self._running = cycle
        self._task = self.loop.create_task(cycle.run_asgi(app))
        self._task.add_done_callback(self.tasks.discard)
        self.tasks.add(self._task)

    def _taken(self) -> None:
        self._guard.readers.remove(self)
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _unanswered(self) -> list[RequestResponseCycle]:
        """Return the requests that are not answered yet, the first one first."""
        running = [self._running] if self._running is not None and not self._running.response_complete else []
        if self._call is not None:
            running = [cast(RequestResponseCycle, self._call)]
        held = [self._held[0]] if self._held is not None else []
        return [*running, *held, *[cycle for cycle, _ in reversed(self.pipeline)]]

    def _look(self, after_seconds: float) -> None:
        """Stop working for a caller that has closed the connection."""
        if self._wire.is_reset():
            self.transport.abort()
        elif self._unanswered():
            following = min(2 * after_seconds, _LONGEST_LOOK_SECONDS)
            self._look_timer = self.loop.call_later(after_seconds, self._look, following)
