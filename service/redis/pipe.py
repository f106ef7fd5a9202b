"""One open connection to a Redis server, spoken to without a task or a stream: bytes out, replies into one future.

redis-py opens the connection: TLS, AUTH, SELECT and its name. From then on this protocol has the transport, because
redis-py's reader costs several times what the reply does, for every batch of rankings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

# On a busy loop the timer can fire before a reply that has already arrived is read. This many turns of the loop read
# it; else a rush of requests would look like a dead Redis, and the breaker would degrade all answers.
PASSES: Final = 8
_CLOSED: Final = "Connection closed by server."

Replies = asyncio.Future[list[Any]]  # Any: a reply, of a type that the command knows
Outcome = list[Any] | Exception


class Pipe(asyncio.Protocol):
    """A connection with at most one batch of commands under way.

    Args:
        connection: open, with nothing under way.
        pool: that it is from.
        silence_seconds: without a reply for so long, the connection is given up.
    """

    def __init__(self, connection: AbstractConnection, pool: ConnectionPool, silence_seconds: float) -> None:
        self.connection, self.pool, self.silence_seconds = connection, pool, silence_seconds
        self.on_free: Callable[[Pipe], None] | None = None  # called once, when what is under way is over
        self._loop = asyncio.get_running_loop()
        errors = cast(Any, connection)._parser.parse_error  # Any: which class an error reply is, redis-py knows best
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=errors)
        self._transport: asyncio.Transport = cast(Any, connection)._writer.transport  # Any: redis-py has no name for it
        self._former = self._transport.get_protocol()
        self._transport.set_protocol(self)
        self._future: Replies | None = None
        self._done: Callable[[Outcome], None] | None = None
        self._replies: list[Any] = []
        self._wanted = 0
        self._timer: asyncio.TimerHandle | None = None
        self.is_lost = self._transport.is_closing()

    def ask(
        self, commands: bytes, count: int, deadline: float, done: Callable[[Outcome], None] | None = None
    ) -> Replies:
        """Send commands in one piece; return the future of their replies, an error reply in its place.

        The future fails with TimeoutError at the deadline, and with what ends the connection. The connection itself
        waits for longer: its late replies must not answer the next batch.

        Args:
            commands: packed.
            count: of them.
            deadline: event loop time.
            done: called with the replies or the error as soon as they are there, a pass of the loop before the future
                wakes anyone; must not raise.
        """
        self._future, self._replies, self._wanted, self._done = self._loop.create_future(), [], count, done
        self._timer = self._loop.call_at(deadline, self._be_late, self._future, PASSES)
        self._transport.write(commands)
        return self._future

    def close(self) -> None:
        """Give the connection up."""
        self.is_lost = True
        self._transport.abort()

    # --- the transport's calls

    def data_received(self, data: bytes) -> None:
        """Read replies."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._replies.append(reply)
        except InvalidResponse as error:
            self._fail(error)
            return
        if len(self._replies) > self._wanted:
            self._fail(InvalidResponse("more replies than commands"))
        elif len(self._replies) == self._wanted:
            self._finish()

    def eof_received(self) -> bool:
        """Close: the server has."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is under way."""
        self.is_lost = True
        self._former.connection_lost(exc)  # redis-py waits for it when it disconnects
        if self._wanted:
            self._fail(exc or RedisConnectionError(_CLOSED))

    def pause_writing(self) -> None:
        """Let the transport keep what the server does not take: it is one batch."""

    def resume_writing(self) -> None:
        """Go on."""

    # --- inside

    def _finish(self) -> None:
        self._stop_timer()
        replies, self._replies, self._wanted = self._replies, [], 0
        broken = next((one for one in replies if isinstance(one, Exception) and not _is_reply(one)), None)
        future, done = self._asker()
        if broken is not None:
            self.close()
        self._be_free()
        _tell(future, done, replies if broken is None else broken)

    def _fail(self, error: Exception) -> None:
        self._stop_timer()
        self._wanted = 0
        future, done = self._asker()
        self.close()
        self._be_free()
        _tell(future, done, error)

    def _be_free(self) -> None:
        on_free, self.on_free = self.on_free, None
        if on_free is not None:
            on_free(self)

    def _be_late(self, future: Replies, passes: int) -> None:
        """Tell the asker that its time is over, and wait on for the replies."""
        if future is not self._future:  # they have come meanwhile, and the next batch may be under way
            return
        if passes:
            self._loop.call_soon(self._be_late, future, passes - 1)
            return
        _, done = self._asker()
        self._timer = self._loop.call_later(self.silence_seconds, self._give_up)
        _tell(future, done, TimeoutError())

    def _asker(self) -> tuple[Replies | None, Callable[[Outcome], None] | None]:
        """Return who asked, once."""
        asker = self._future, self._done
        self._future = self._done = None
        return asker

    def _give_up(self) -> None:
        if self._wanted:
            self._fail(TimeoutError())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _tell(future: Replies | None, done: Callable[[Outcome], None] | None, outcome: Outcome) -> None:
    if future is not None and not future.done():
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        if done is not None:
            done(outcome)


def _is_reply(error: Exception) -> bool:
    """Say whether an error is the reply to one command; any other ends the connection."""
    return isinstance(error, ResponseError)
