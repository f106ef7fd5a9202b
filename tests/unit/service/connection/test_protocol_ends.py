"""Raw bytes on a socket: callers who finish sending, who hang up, and who do not read."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
import structlog

from service.errors import CALLER_GONE
from service.ranking.answer import Ranking
from service.ranking.call import AwaitedCall
from service.settings.limits import LimitsSettings
from service.settings.root import Settings
from tests.support.fakes import Edge
from tests.support.ports import BODY, HOST, LIVE, Port, check_refusal, chunked, post, probe, serving

pytestmark = pytest.mark.anyio

GONE = '{route="/rank",status="499",variant="none"}'
ENDED: dict[str, tuple[bytes, list[int]]] = {
    "a probe": (LIVE, [200]),
    "a ranking": (post(), [200]),
    "a ranking in chunks": (post(b"Transfer-Encoding: chunked", body=chunked(BODY)), [200]),
    "a bad ranking": (post(body=b"{}"), [422]),
    "an unknown route": (LIVE.replace(b"live", b"dead"), [404]),
    "keep-alive": (LIVE.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"), [200]),
    "close": (LIVE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), [200]),
    "HTTP/1.0": (b"GET /info HTTP/1.0\r\n\r\n", [200]),
    "three in one segment": (LIVE + post() + LIVE, [200, 200, 200]),
    "half a head behind a request": (LIVE + b"GET /in", [200]),
    "half a body behind a request": (LIVE + post()[:-5], [200]),
    "garbage": (b"GARBAGE\r\n\r\n", [400]),
    "garbage behind a request": (LIVE + b"GARBAGE\r\n\r\n", [200, 400]),
    "another transfer coding": (post(b"Transfer-Encoding: gzip"), [501]),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDED)
@pytest.mark.parametrize("pause", [False, True])
async def test_a_caller_who_has_finished_sending_gets_every_answer_and_then_the_end(
    edge: Edge, name: str, pause: bool
) -> None:
    data, statuses = ENDED[name]
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(data)
        if pause:
            await asyncio.sleep(0.005)  # the end comes in another read than the request
        connection.writer.write_eof()
        answers = [await connection.answer() for _ in statuses]
        assert [answer.status for answer in answers if answer is not None] == statuses
        assert await connection.ends()
        await connection.close()
        await port.until(lambda: not port.state.connections and not port.state.tasks)
    assert edge.samples("ranker_inflight_requests") == {"": 0}


async def test_a_caller_who_has_finished_sending_may_wait_for_a_slow_answer(edge: Edge) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    rank = edge.ranker.rank

    async def slowly(call: AwaitedCall) -> Ranking:
        begun.set()
        await go_on.wait()
        return await rank(call)

    edge.ranker.rank = slowly  # type: ignore[method-assign]
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(post())
        await begun.wait()
        connection.writer.write_eof()
        await asyncio.sleep(0.05)
        assert edge.samples("ranker_inflight_requests") == {"": 1}
        go_on.set()
        answer = await connection.answer()
        assert answer is not None
        assert (answer.status, answer.header(b"connection")) == (200, [b"close"])
        assert await connection.ends()
        await connection.close()


@pytest.mark.parametrize("data", [b"", b"GET /in", b"POST /rank HTTP/1.1\r\nHost: x\r\n", post()[:-5]])
async def test_a_caller_who_finishes_before_the_request_is_whole_is_closed_unanswered(edge: Edge, data: bytes) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(data)
        connection.writer.write_eof()
        assert await connection.ends()
        await connection.close()
        await port.until(lambda: not port.state.connections and not port.state.tasks)
    assert edge.ranker.asked == []


@pytest.mark.parametrize("what", ["decide", "rank", "write"])
async def test_a_fault_of_ours_is_answered_as_one_and_leaves_nothing_behind(edge: Edge, what: str) -> None:
    def faulty(*_: object, **__: object) -> Any:
        raise ZeroDivisionError("secret detail")

    with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs():
        if what == "write":
            patch.setattr("service.http.rank_answer.rank_rest", faulty)
        else:
            patch.setattr(edge.experiments if what == "decide" else edge.ranker, what, faulty)
        async with serving(edge) as port:
            connection = await port.connect()
            for _ in range(3):
                connection.send(post())
                answer = await connection.answer()
                assert answer is not None
                assert (answer.status, b"internal_error" in answer.body, b"secret" in answer.body) == (500, True, False)
            patch.undo()
            connection.send(post())
            answer = await connection.answer()
            assert answer is not None
            assert answer.status == 200
            await connection.close()
    assert edge.runtime.admission.rankings.inside == 0
    assert edge.samples("ranker_inflight_requests") == {"": 0}


# --- hanging up


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_caller_who_hangs_up_is_counted_and_logged_as_gone_and_not_as_our_fault(edge: Edge, how: str) -> None:
    begun, why = asyncio.Event(), list[Any]()

    async def never(*_: object) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as cancelled:
            why.extend(cancelled.args)
            raise

    edge.ranker.rank = never  # type: ignore[method-assign]
    before, refused = edge.samples("ranker_requests_total"), edge.samples("ranker_rejected_total")
    with structlog.testing.capture_logs() as lines:
        async with serving(edge) as port:
            connection = await port.connect()
            connection.send(post())
            await begun.wait()
            if how == "close":
                await connection.close()
            else:
                connection.writer.transport.abort()
            await port.until(lambda: not port.state.tasks and not edge.ranker.tasks and bool(why))
    counts = edge.samples("ranker_requests_total")
    [series] = [series for series, count in counts.items() if count != before.get(series, 0)]
    assert 'route="/rank",status="499"' in series
    assert edge.samples("ranker_rejected_total") == refused
    assert [line["status"] for line in lines if line["event"] == "request"] == [499]
    assert why == [CALLER_GONE]


@pytest.mark.slow
async def test_four_hundred_callers_who_hang_up_at_once_are_all_gone() -> None:
    edge = Edge(Settings(limits=LimitsSettings(max_inflight=400, deadline_ms=20_000, max_deadline_ms=20_000)))

    async def slowly(*_: object) -> Any:
        await asyncio.sleep(60)
        raise AssertionError("worked for a caller who has gone")

    edge.ranker.rank = slowly  # type: ignore[method-assign]
    async with serving(edge) as port:

        def hang_up() -> None:
            for _ in range(400):
                with socket.create_connection(("127.0.0.1", port.number)) as one:
                    one.sendall(post())

        await asyncio.to_thread(hang_up)
        # The kernel queues callers that the loop has not accepted yet: no connections does not mean no callers.
        await port.until(lambda: sum(edge.samples("ranker_requests_total").values()) == 400)
        await port.until(lambda: not port.state.tasks and not port.state.connections)
    counts = edge.samples("ranker_requests_total")
    assert {series.split('status="')[1][:3] for series in counts} == {"499"}
    assert edge.samples("ranker_inflight_requests") == {"": 0}


async def test_requests_in_the_pipeline_of_a_caller_who_hangs_up_are_counted_as_gone(edge: Edge) -> None:
    begun = asyncio.Event()

    async def never(*_: object) -> Any:
        begun.set()
        await asyncio.Event().wait()

    edge.ranker.rank = never  # type: ignore[method-assign]
    before = edge.samples("ranker_requests_total").get('{route="none",status="499",variant="none"}', 0)
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(post() + LIVE * 3)
        await begun.wait()
        connection.writer.transport.abort()
        await port.until(lambda: not port.state.tasks)
    assert edge.samples("ranker_requests_total")['{route="none",status="499",variant="none"}'] == before + 3


# --- reading slowly


def large(candidates: int) -> bytes:
    body = {"user_id": "u1", "candidates": [f"item-{number:020}" for number in range(candidates)], "explain": True}
    return post(body=json.dumps(body).encode())


def paused(port: Port) -> int:
    return sum(one.flow.write_paused for one in port.state.connections)  # type: ignore[attr-defined]


async def test_slow_readers_take_no_place_from_good_neighbours() -> None:
    edge = Edge(Settings(limits=LimitsSettings(max_inflight=4)))
    async with serving(edge, send_buffer=4_096) as port:
        slow = [await port.connect_unread() for _ in range(64)]
        for count, connection in enumerate(slow, start=1):  # at once, all but four would be refused
            connection.send(large(2_000) * 3)
            await port.until(lambda: paused(port) == count)  # noqa: B023 - it is called at once
        for _ in range(20):
            good = await port.connect()
            good.send(post())
            answer = await good.answer()
            assert answer is not None
            assert answer.status == 200
            await good.close()
        for connection in slow:
            connection.writer.transport.abort()
            await connection.close()
        await port.until(lambda: not port.state.connections and not port.state.tasks)
    assert edge.samples("ranker_inflight_requests") == {"": 0}


async def test_a_slow_reader_is_not_worked_for_before_he_has_read_and_then_gets_every_answer() -> None:
    edge = Edge()
    async with serving(edge, send_buffer=4_096) as port:
        connection = await port.connect_unread()
        connection.send(large(2_000) * 8)
        await port.until(lambda: any(one.flow.write_paused for one in port.state.connections))  # type: ignore[attr-defined]
        await asyncio.sleep(0.1)
        assert len(edge.ranker.asked) == 1
        connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
        answers = [await connection.answer() for _ in range(8)]
        assert [answer.status for answer in answers if answer is not None] == [200] * 8
        assert len({answer.body[50:] for answer in answers if answer is not None}) == 1
        connection.send(LIVE)
        assert await connection.answer() is not None
        await connection.close()


async def test_a_few_unread_bytes_are_cut_off_in_time_too() -> None:
    """Less than a transport's usual high-water mark; the caller has even ended its side."""
    edge = Edge()
    async with serving(edge, send_buffer=4_096, write_timeout_ms=100) as port:
        connection = await port.connect_unread()
        connection.send(large(300))
        connection.writer.write_eof()
        await port.until(lambda: port.count("ranker_connections_refused_total", '{reason="slow_reader"}') == 1)
        await port.until(lambda: not port.state.connections and not port.state.tasks)
        connection.writer.transport.abort()


async def test_what_slow_readers_leave_unread_is_bounded_for_the_whole_process() -> None:
    edge = Edge()
    async with serving(edge, send_buffer=4_096, max_unsent_bytes=400_000) as port:
        slow = []
        for _ in range(8):
            slow.append(await port.connect_unread())
            slow[-1].send(large(2_000) * 3)
        await port.until(lambda: port.count("ranker_connections_refused_total", '{reason="slow_reader"}') >= 4)
        held = sum(one.transport.get_write_buffer_size() for one in port.state.connections)
        assert held <= 400_000
        assert (await probe(port)).status == 200
        for connection in slow:
            connection.writer.transport.abort()
            await connection.close()


# --- what else a connection may say


CONNECTIONS = {
    b"close": False, b"Close": False, b"keep-alive, close": False, b"close, TE": False, b"keep-alive": True,
    b"Keep-Alive": True, b"TE": True, b"": True, b"upgrade": True,
}  # fmt: skip


@pytest.mark.parametrize(("value", "stays"), CONNECTIONS.items())
async def test_a_connection_stays_unless_its_caller_says_close(edge: Edge, value: bytes, stays: bool) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(LIVE.replace(b"\r\n\r\n", b"\r\nConnection: " + value + b"\r\n\r\n"))
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 200
        assert (b"close" in answer.header(b"connection")) == (not stays)
        if stays:
            connection.send(LIVE)
            assert await connection.answer() is not None
        else:
            assert await connection.ends()
        await connection.close()


async def test_expecting_to_be_asked_works_for_a_caller_who_has_finished_sending(edge: Edge) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(post(b"Content-Length: 36", b"Expect: 100-continue", body=b""))
        asked = await connection.answer()
        connection.send(BODY)
        connection.writer.write_eof()
        answer = await connection.answer()
        assert asked is not None
        assert answer is not None
        assert (asked.status, answer.status) == (100, 200)
        assert await connection.ends()
        await connection.close()


async def test_after_501_nothing_more_is_read(edge: Edge) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(b"POST /rank HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + LIVE)
        check_refusal(await connection.answer(), 501)
        assert await connection.ends()
        await connection.close()


async def test_a_thousand_options_in_one_segment_are_answered_in_order(edge: Edge) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send((b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n") * 1_000)
        answers = [await connection.answer() for _ in range(1_000)]
        assert {answer.status for answer in answers if answer is not None} == {204}
        await connection.close()
