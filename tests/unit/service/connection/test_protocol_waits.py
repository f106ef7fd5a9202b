"""Raw bytes on a socket: every wait has an end, every body and every number of connections a limit."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from service.settings.limits import LimitsSettings
from service.settings.root import Settings
from tests.support.fakes import Edge
from tests.support.ports import BODY, HOST, LIVE, check_refusal, post, probe, serving

pytestmark = pytest.mark.anyio


async def test_headers_that_do_not_arrive_are_refused_in_time(edge: Edge) -> None:
    async with serving(edge, header_timeout_ms=500) as port:
        connections = []
        for _ in range(50):  # the wait begins at the accept, and one that has sent nothing by its end is told nothing
            connections.append(await port.connect())
            connections[-1].send(b"GET /info HTTP/1.1\r\nHost: ed")
        for connection in connections:
            check_refusal(await connection.answer(), 408)
            assert await connection.ends()
            await connection.close()
        assert port.count("ranker_connections_refused_total", '{reason="slow_head"}') >= 50
        await port.until(lambda: not port.state.connections)


async def test_headers_that_trickle_are_refused_in_time(edge: Edge) -> None:
    async with serving(edge, header_timeout_ms=500) as port:
        connection = await port.connect()

        async def trickle() -> None:
            while True:
                connection.send(b"X")
                await asyncio.sleep(0.005)

        connection.send(b"GET /info HTTP/1.1\r\nX: ")
        task = asyncio.create_task(trickle())
        check_refusal(await connection.answer(), 408)
        task.cancel()
        await connection.close()


async def test_a_connection_that_says_nothing_is_closed_without_a_word(edge: Edge) -> None:
    async with serving(edge, header_timeout_ms=30) as port:
        connection = await port.connect()
        assert await connection.ends()
        await connection.close()


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})])  # sees timers before what it can read
async def test_a_request_that_arrived_before_the_end_of_a_wait_is_answered_though_it_is_read_later(
    edge: Edge, is_new: bool
) -> None:
    loop, busy = asyncio.get_running_loop(), asyncio.Event()
    async with serving(edge, header_timeout_ms=100) as port:
        with socket.create_connection(("127.0.0.1", port.number)) as caller, open_pair() as (told, tells):
            caller.setblocking(False)
            await port.until(lambda: port.state.connections)
            if not is_new:
                [protocol] = port.state.connections
                protocol.timeout_keep_alive = 0.1  # type: ignore[union-attr]
                caller.send(post())
                assert (await loop.sock_recv(caller, 65_536)).startswith(b"HTTP/1.1 200")

            def be_busy() -> None:
                caller.send(post())
                time.sleep(0.2)  # until after the end of the wait
                loop.remove_reader(told)
                busy.set()

            loop.add_reader(told, be_busy)
            tells.send(b"x")
            await busy.wait()
            assert (await loop.sock_recv(caller, 65_536)).startswith(b"HTTP/1.1 200")


@contextmanager
def open_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@pytest.mark.parametrize("start", [b"Content-Length: 36\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"])
async def test_a_body_that_does_not_arrive_is_refused_in_time_and_counted_once(edge: Edge, start: bytes) -> None:
    async with serving(edge, body_timeout_ms=50) as port:
        before = port.count("ranker_requests_total", '{route="/rank",status="408",variant="none"}')
        connection = await port.connect()
        connection.send(b"POST /rank HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST + start)
        check_refusal(await connection.answer(), 408)
        assert await connection.ends()
        await connection.close()
        await port.until(lambda: not port.state.tasks)
        assert port.count("ranker_requests_total", '{route="/rank",status="408",variant="none"}') == before + 1
        assert edge.samples("ranker_inflight_requests") == {"": 0}


async def test_a_body_refused_early_that_never_ends_is_cut_off(edge: Edge) -> None:
    async with serving(edge, body_timeout_ms=1_000) as port:  # longer than the refusal takes on a busy machine
        connection = await port.connect()
        connection.send(b"POST /nothing HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\nabc")
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 404
        assert await connection.ends()
        await connection.close()
        await port.until(lambda: not port.state.connections)


@pytest.mark.parametrize("framing", ["declared", "chunked"])
async def test_ten_megabytes_are_refused_early_and_the_refusal_arrives(edge: Edge, framing: str) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        head = b"POST /rank HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
        piece = b" " * 1_000_000
        if framing == "declared":
            connection.send(head + b"Content-Length: 10000000\r\n\r\n")
        else:
            connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
            piece = b"%x\r\n%s\r\n" % (len(piece), piece)
        for _ in range(10):
            connection.send(piece)
            await connection.writer.drain()
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 413
        assert answer.header(b"connection") == [b"close"]
        assert len(answer.header(b"x-ab-bucket")) == 1
        await connection.close()
        await port.until(lambda: not port.state.connections)


async def test_a_gigabyte_that_is_announced_is_refused_before_it_is_sent(edge: Edge) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(post(b"Content-Length: 1000000000", b"Expect: 100-continue", body=b""))
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 413
        await connection.close()


async def test_a_caller_who_expects_to_be_asked_is_asked(edge: Edge) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(post(b"Content-Length: 36", b"Expect: 100-continue", body=b""))
        asked = await connection.answer()
        assert asked is not None
        assert asked.status == 100
        connection.send(BODY)
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 200
        await connection.close()


async def test_a_caller_who_hangs_up_is_worked_for_no_longer(edge: Edge) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def never(*_: object) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    edge.ranker.rank = never  # type: ignore[method-assign]
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(post())
        await begun.wait()
        await connection.close()
        async with asyncio.timeout(60):
            await ended.wait()
        await port.until(lambda: not port.state.tasks)
        assert edge.samples("ranker_inflight_requests") == {"": 0}


async def test_one_connection_too_many_is_refused_and_room_is_made_by_leaving(edge: Edge) -> None:
    async with serving(edge, max_connections=2) as port:
        kept = [await port.connect() for _ in range(2)]
        await port.until(lambda: len(port.state.connections) == 2)
        surplus = await port.connect()
        check_refusal(await surplus.answer(), 503)
        assert await surplus.ends()
        await surplus.close()
        kept[0].send(LIVE)
        answer = await kept[0].answer()
        assert answer is not None
        assert answer.status == 200
        await kept[1].close()
        await port.until(lambda: len(port.state.connections) == 1)
        assert (await probe(port)).status == 200
        await kept[0].close()


SLOW = {"idle": b"", "head": b"GET /info HTTP/1.1\r\nX: ", "body": post(b"Content-Length: 36", body=b"{")}


@pytest.mark.parametrize("beginning", SLOW.values(), ids=SLOW)
async def test_a_port_that_makes_room_ends_the_oldest_connection_that_waits_and_no_other(
    edge: Edge, beginning: bytes
) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()
    rank = edge.ranker.rank

    async def late(*call: Any) -> Any:
        begun.set()
        await goes_on.wait()
        return await rank(*call)

    edge.ranker.rank = late  # type: ignore[method-assign]
    async with serving(edge, max_connections=3, makes_room=True) as port:
        before = port.count("ranker_connections_refused_total", '{reason="too_many"}')
        working = await port.connect()
        working.send(post())
        await begun.wait()
        waiting = [await port.connect() for _ in range(2)]
        for connection in waiting:
            connection.send(beginning)
        await port.until(lambda: _are_read(port, beginning))
        assert (await probe(port)).status == 200
        while await waiting[0].answer() is not None:  # what was answered before
            pass
        assert port.count("ranker_connections_refused_total", '{reason="too_many"}') == before + 1
        await port.until(lambda: len(port.state.connections) == 2)
        goes_on.set()
        answer = await working.answer()
        assert answer is not None
        assert answer.status == 200
        for connection in (*waiting, working):
            await connection.close()


def _are_read(port: Any, beginning: bytes) -> bool:
    """Return whether all three connections are there, and what they sent was read."""
    connections = port.state.connections
    read = [one for one in connections if one._in_head or one._in_body or one._call or one.cycle is not None]
    return len(connections) == 3 and (not beginning or len(read) == 3)


async def test_a_port_that_makes_room_refuses_one_too_many_while_all_are_being_answered(edge: Edge) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def never(*_: object) -> Any:
        begun.set()
        await goes_on.wait()
        raise RuntimeError("the end")

    edge.ranker.rank = never  # type: ignore[method-assign]
    async with serving(edge, max_connections=1, makes_room=True) as port:
        working = await port.connect()
        working.send(post())
        await begun.wait()
        surplus = await port.connect()
        check_refusal(await surplus.answer(), 503)
        goes_on.set()
        answer = await working.answer()
        assert answer is not None
        assert answer.status == 500
        for connection in (working, surplus):
            await connection.close()


async def test_idle_connections_are_counted(edge: Edge) -> None:
    async with serving(edge) as port:
        connections = [await port.connect() for _ in range(5)]
        await port.until(lambda: edge.samples("ranker_connections") == {"": 5})
        for connection in connections:
            await connection.close()
        await port.until(lambda: edge.samples("ranker_connections") == {"": 0})


async def test_a_caller_who_does_not_read_is_cut_off() -> None:
    edge = Edge(Settings(limits=LimitsSettings(max_candidates=50_000)))
    candidates = [f"item-{number:020}" for number in range(20_000)]
    body = json.dumps({"user_id": "u1", "candidates": candidates}).encode()
    async with serving(edge, write_timeout_ms=50) as port:
        connection = await port.connect()
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(20):
            connection.send(post(body=body))
        await port.until(lambda: port.count("ranker_connections_refused_total", '{reason="slow_reader"}') == 1)
        await port.until(lambda: not port.state.connections)
        connection.writer.transport.abort()
        await connection.close()


async def test_while_draining_a_kept_connection_is_answered_and_closed(edge: Edge) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(LIVE)
        assert await connection.answer() is not None
        edge.runtime.is_draining = True
        connection.send(post())
        answer = await connection.answer()
        edge.runtime.is_draining = False
        assert answer is not None
        assert (answer.status, answer.header(b"connection")) == (200, [b"close"])
        assert await connection.ends()
        await connection.close()
