"""One connection to Redis: replies answer the batch that asked for them, and no other, however late they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Connection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

from service.redis.node import Command, Node
from service.redis.pipe import Pipe
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

PING = b"*1\r\n$4\r\nPING\r\n"


class Server:
    """Takes connections, and replies what a test writes."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.received = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while data := await reader.read(65_536):
            self.received += data
        writer.close()

    def reply(self, data: bytes) -> None:
        self.writers[-1].write(data)


@asynccontextmanager
async def server_and_pool() -> AsyncIterator[tuple[Server, ConnectionPool]]:
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    pool = ConnectionPool(
        connection_class=Connection, host="127.0.0.1", port=port, driver_info=None, protocol=2, max_connections=4,
    )  # fmt: skip
    try:
        yield server, pool
    finally:
        await pool.aclose()
        listener.close()
        for writer in server.writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def pipe_of(silence_seconds: float = 60.0) -> AsyncIterator[tuple[Server, Pipe]]:
    async with server_and_pool() as (server, pool):
        connection: Any = await pool.get_connection()  # type: ignore[no-untyped-call]
        pipe = Pipe(connection, pool, silence_seconds)
        await until(lambda: bool(server.writers))
        yield server, pipe
        pipe.close()


def soon(seconds: float = 60.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_commands_go_out_in_one_piece_and_their_replies_come_back_in_order() -> None:
    async with pipe_of() as (server, pipe):
        asked = pipe.ask(PING * 3, 3, soon())
        await until(lambda: server.received == PING * 3)
        server.reply(b"+one\r\n-ERR two\r\n$5\r\nth")
        await asyncio.sleep(0.01)
        assert not asked.done()
        server.reply(b"ree\r\n")
        one, two, three = await asked
        assert (one, three) == (b"one", b"three")
        assert isinstance(two, ResponseError)
        assert not pipe.is_lost


async def test_late_replies_do_not_answer_the_next_batch() -> None:
    async with pipe_of() as (server, pipe):
        freed: list[Pipe] = []
        pipe.on_free = freed.append
        with pytest.raises(TimeoutError):
            await pipe.ask(PING, 1, soon(0.005))
        assert freed == []  # its reply is still due
        server.reply(b"+late\r\n")
        await until(lambda: freed == [pipe])
        asked = pipe.ask(PING, 1, soon())
        server.reply(b"+next\r\n")
        assert await asked == [b"next"]


async def test_a_batch_is_not_ended_by_the_deadline_of_the_one_before() -> None:
    """The reply comes in the few turns of the loop that are left after the deadline; then the next batch begins."""
    async with pipe_of() as (_, pipe):
        first = pipe.ask(PING, 1, soon(-1.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        pipe.data_received(b"+first\r\n")
        second = pipe.ask(PING, 1, soon())
        assert await first == [b"first"]
        for _ in range(50):
            await asyncio.sleep(0)
        assert not second.done()
        pipe.data_received(b"+second\r\n")
        assert await second == [b"second"]


async def test_a_cancelled_asker_leaves_the_connection_usable() -> None:
    async with pipe_of() as (server, pipe):
        asked = pipe.ask(PING, 1, soon())
        asked.cancel()
        server.reply(b"+unheard\r\n")
        await until(lambda: pipe._wanted == 0)
        asked = pipe.ask(PING, 1, soon())
        server.reply(b"+heard\r\n")
        assert await asked == [b"heard"]


async def test_a_connection_that_stays_silent_is_given_up() -> None:
    async with pipe_of(silence_seconds=0.01) as (_, pipe):
        freed: list[Pipe] = []
        pipe.on_free = freed.append
        with pytest.raises(TimeoutError):
            await pipe.ask(PING, 1, soon(0.005))
        await until(lambda: freed == [pipe])
        assert pipe.is_lost


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"+one\r\n+two\r\n", InvalidResponse), (b"?what\r\n", InvalidResponse), (None, RedisConnectionError)],
    ids=["more replies than commands", "no reply at all", "the end"],
)
async def test_what_is_no_reply_ends_the_connection_and_frees_it_once(
    data: bytes | None, error: type[Exception]
) -> None:
    async with pipe_of() as (server, pipe):
        freed: list[Pipe] = []
        pipe.on_free = freed.append
        asked = pipe.ask(PING, 1, soon())
        await until(lambda: server.received == PING)
        if data is None:
            server.writers[-1].close()
        else:
            server.reply(data)
        with pytest.raises(error):
            await asked
        await asyncio.sleep(0.01)
        assert (pipe.is_lost, freed) == (True, [pipe])


async def test_an_unasked_reply_ends_the_connection_and_changes_no_answer() -> None:
    async with pipe_of() as (server, pipe):
        asked = pipe.ask(PING, 1, soon())
        server.reply(b"+one\r\n")
        replies = await asked
        server.reply(b"+unasked\r\n")
        await until(lambda: pipe.is_lost)
        assert replies == [b"one"]


# --- a server's connections


@asynccontextmanager
async def node_of() -> AsyncIterator[tuple[Server, Node]]:
    async with server_and_pool() as (server, pool):
        made = [pool]
        options = pool.connection_kwargs

        def make() -> ConnectionPool:
            return made.pop() if made else ConnectionPool(connection_class=Connection, max_connections=4, **options)

        node = Node(make, max_connections=3, timeout_seconds=10.0)
        yield server, node
        await node.aclose()


async def first_asked(server: Server, node: Node) -> None:
    """Let the node open a connection that the next commands go over at once."""
    asked = asyncio.create_task(node.run([Command(b"", ("PING",))], soon()))
    await until(lambda: server.received.endswith(PING))
    server.reply(b"+open\r\n")
    assert await asked == [b"open"]
    server.received = b""


async def test_a_command_that_cannot_be_sent_costs_neither_a_place_nor_a_connection() -> None:
    async with node_of() as (server, node):
        await first_asked(server, node)
        for _ in range(10):
            with pytest.raises(UnicodeEncodeError):
                await node.run([Command(b"", ("GET", "\ud800"))], soon())
        asked = asyncio.create_task(node.run([Command(b"", ("PING",))], soon()))
        await until(lambda: server.received == PING)
        server.reply(b"+still\r\n")
        assert await asked == [b"still"]
        assert len(server.writers) == 1


async def test_connections_that_are_dropped_end_with_their_replies() -> None:
    async with node_of() as (server, node):
        await first_asked(server, node)
        asked = asyncio.create_task(node.run([Command(b"", ("PING",))], soon()))
        await until(lambda: server.received == PING)
        node.drop_connections(float("inf"))
        await asyncio.sleep(0.01)
        server.reply(b"+last\r\n")
        assert await asked == [b"last"]
        asked = asyncio.create_task(node.run([Command(b"", ("PING",))], soon()))
        await until(lambda: len(server.writers) == 2 and server.received == PING * 2)
        server.reply(b"+new\r\n")
        assert await asked == [b"new"]
