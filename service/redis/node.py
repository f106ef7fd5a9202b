"""One Redis server from the client's side: its connections, and the commands that they carry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple, TypeVar

from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from service.flow.breaker import Breaker
from service.flow.supervision import UNOBSERVED, TaskObserver
from service.redis.dialling import Dialling
from service.redis.errors import Busy, LeftAlone
from service.redis.health import Health
from service.redis.packing import packed
from service.redis.pipe import PASSES, Outcome, Pipe, Replies
from service.redis.replication import Replication, Words

T = TypeVar("T")
Address = tuple[str, int]  # host and port

PING: Final = ("PING",)
# Commands that are sent before their replies are read. A server finishes the commands that it has read from one
# connection before it turns to the next: a thousand appends in one piece would delay all reads.
_PIECE: Final = 64


class Command(NamedTuple):
    """One command on one key."""

    key: bytes
    words: Words


class Node:
    """A server. Cancelling a caller never cancels a command: that would drop its connection.

    Args:
        make_pool: creates the pool of connections; called again when the connections are dropped.
        host: of its address; a Cluster's node may name another one by its port only.
        max_connections: calls in progress at once.
        max_pieces: pieces of calls that the server has queued at once; None: limited only by the connections.
        timeout_seconds: for a probe.
        breaker: decides when the server is skipped.
        replication: confirms writes; None for reads.
        observer: counts restarts of background tasks.
    """

    def __init__(
        self,
        make_pool: Callable[[], ConnectionPool],
        *,
        host: str = "",
        max_connections: int,
        timeout_seconds: float,
        max_pieces: int | None = None,
        breaker: Breaker | None = None,
        replication: Replication | None = None,
        observer: TaskObserver = UNOBSERVED,
    ) -> None:
        self._make_pool = make_pool
        self._pool = make_pool()
        self._dialling = Dialling(self._pool)
        self._made_at = time.monotonic()
        self.host = host
        self._turns = asyncio.Semaphore(max_connections)
        self._pieces = asyncio.Semaphore(max_pieces or max_connections)
        self._timeout = timeout_seconds
        self.breaker = breaker or Breaker()
        self._replication = replication
        self._health = Health(self.breaker, self._probe, observer)
        self._note = self._health.note
        self._idle: list[Pipe] = []  # the last one was used last
        self._tasks: set[asyncio.Future[Any]] = set()  # Any: replies of different commands

    async def run(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Send commands over one connection; an error reply is returned in its place.

        Args:
            commands: of keys that this server has.
            deadline: event loop time after which the caller continues without a reply.

        Raises:
            LeftAlone: the breaker is open.
            Busy: no connection was free in time.
            Exception: an error of connecting, sending or waiting; TimeoutError at the deadline.
        """
        if self.breaker.is_open:
            raise LeftAlone
        try:
            if self._may_ask_at_once(commands):
                replies = await self._send(commands, deadline)
            else:
                replies = await self._finished(self._exchange(commands, deadline), deadline)
        except Busy:
            raise
        except Exception as error:
            self._note(error)
            raise
        self._note(replies)
        return replies

    def begin(self, commands: Sequence[Command], deadline: float, done: Callable[[Outcome], None]) -> bool:
        """Send commands as `run` does, without a coroutine; return whether a connection was open and free for them.

        Args:
            commands: of keys that this server has.
            deadline: event loop time at which `done` gets a TimeoutError.
            done: called once, later, with what `run` returns or raises; must not raise.
        """
        if self.breaker.is_open or not self._may_ask_at_once(commands):
            return False

        def noted(outcome: Outcome) -> None:
            self._note(outcome)
            done(outcome)

        self._send(commands, deadline, noted)
        return True

    @property
    def is_failing(self) -> bool:
        """Return whether the server failed when it was last asked, a moment ago."""
        return self._health.is_failing

    def drop_connections(self, since: float) -> None:
        """Use new connections, unless they are younger than `since`; the old ones are closed after their replies."""
        if self._made_at < since:
            old, under_way = self._pool, set(self._tasks)
            for pipe in self._idle:
                pipe.close()
            self._idle.clear()
            self._pool, self._made_at = self._make_pool(), time.monotonic()
            self._dialling = Dialling(self._pool)
            self._keep(asyncio.ensure_future(_close(old, under_way)))

    async def aclose(self, timeout_seconds: float = 0.0) -> None:
        """Give calls in progress a moment to finish, then close all connections."""
        await self._health.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await self._pool.aclose()

    def _may_ask_at_once(self, commands: Sequence[Command]) -> bool:
        """Say whether commands can go over a connection that is open and free, in one piece."""
        while self._idle and self._idle[-1].is_lost:
            self._forsake(self._idle.pop())
        is_one_piece = self._replication is None and len(commands) <= _PIECE
        return is_one_piece and bool(self._idle) and not self._turns.locked()

    def _send(
        self, commands: Sequence[Command], deadline: float, done: Callable[[Outcome], None] | None = None
    ) -> Replies:
        content = b"".join([packed(command.words) for command in commands])
        pipe = self._idle.pop()
        with suppress(StopIteration):  # one is free: the coroutine ends without a wait
            self._turns.acquire().send(None)
        pipe.on_free = self._free
        replies = pipe.ask(content, len(commands), deadline, done)
        self._keep(replies)
        return replies

    async def _exchange(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        async with _turn(self._turns, deadline):
            pipe = await self._pipe()
            try:
                return await self._converse(pipe, commands, deadline)
            except Busy:
                raise  # between two pieces: no reply is due
            except BaseException:
                pipe.close()  # a late reply must never answer the next command
                raise
            finally:
                self._put_back(pipe)

    async def _pipe(self) -> Pipe:
        """Return an open connection: one that is free, or a new one."""
        while self._idle:
            pipe = self._idle.pop()
            if not pipe.is_lost:
                return pipe
            self._forsake(pipe)
        pool = self._pool
        connection = await self._dialling.open()
        return Pipe(connection, pool, connection.socket_timeout or self._timeout)

    def _free(self, pipe: Pipe) -> None:
        """Take back a connection whose batch is over."""
        self._turns.release()
        self._put_back(pipe)

    def _put_back(self, pipe: Pipe) -> None:
        if pipe.is_lost or pipe.pool is not self._pool:
            self._forsake(pipe)
        else:
            self._idle.append(pipe)

    def _forsake(self, pipe: Pipe) -> None:
        pipe.close()
        self._keep(asyncio.ensure_future(_let_go(pipe)))

    async def _converse(self, pipe: Pipe, commands: Sequence[Command], deadline: float) -> list[Any]:
        replies: list[Any] = []
        for start in range(0, len(commands), _PIECE):
            piece = [command.words for command in commands[start : start + _PIECE]]
            async with _turn(self._pieces, deadline):
                replies += await _ask(pipe, piece)
        if self._replication is None:
            return replies
        error = await self._replication.confirm(lambda words: _ask_one(pipe, words))
        return replies if error is None else [error if not isinstance(one, Exception) else one for one in replies]

    async def _finished(self, work: Coroutine[Any, Any, T], deadline: float) -> T:
        """Await work until the deadline, but never cancel it: the timeouts of its connection end it."""
        task = asyncio.ensure_future(work)
        self._keep(task)
        await asyncio.wait({task}, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
        for _ in range(PASSES):
            if task.done():
                return task.result()
            await asyncio.sleep(0)
        raise TimeoutError

    def _keep(self, task: asyncio.Future[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, so that an error without a waiting caller is not reported as lost

    async def _probe(self) -> None:
        deadline = asyncio.get_running_loop().time() + self._timeout
        await self._finished(self._exchange([Command(b"", PING)], deadline), deadline)


@asynccontextmanager
async def _turn(turns: asyncio.Semaphore, deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            await turns.acquire()
    except TimeoutError:
        raise Busy from None
    try:
        yield
    finally:
        turns.release()


async def _ask(pipe: Pipe, commands: Sequence[Words]) -> list[Any]:
    """Send commands in one piece and wait for their replies, as long as the connection's own patience lasts."""
    deadline = asyncio.get_running_loop().time() + pipe.silence_seconds
    return await pipe.ask(b"".join(map(packed, commands)), len(commands), deadline)


async def _ask_one(pipe: Pipe, words: Words) -> Any:
    return (await _ask(pipe, [words]))[0]


async def _let_go(pipe: Pipe) -> None:
    """Give redis-py its connection back, so that it opens it again when it is wanted."""
    with suppress(RedisError, OSError):
        await pipe.connection.disconnect(nowait=True)
        await pipe.pool.release(pipe.connection)


async def _close(pool: ConnectionPool, under_way: set[asyncio.Future[Any]]) -> None:
    if under_way:
        await asyncio.wait(under_way)
    with suppress(RedisError, OSError):
        await pool.aclose()
