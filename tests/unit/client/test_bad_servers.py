"""The Python client against servers on real sockets that stall, trickle, cut, close and refuse."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from ranker_client import AsyncRankerClient, DeadlinePassed, NoAnswer, RankerClient, Refused, Retries
from ranker_client.retries import pause_asked_for

from tests.support.scripted_server import Act, ScriptedServer, answer, cut, stall, trickle, whole

ITEMS = [{"item_id": f"i{number}", "score": 1.0} for number in range(40)]
RANKING = {"request_id": "r", "model": "m", "version": "1", "degraded": [], "parameters": {}, "items": ITEMS}
STORED = {"stored": 1, "repeated": 0, "refused": 0, "refusals": []}
BUSY = {"error": {"code": "overloaded", "message": "busy", "request_id": "r"}}
PATIENT = 20.0
SHORT = 0.25
FAR_LESS = 5.0  # than the answer of `trickle` takes, and than a busy machine needs
QUICK = Retries(most=2, first_pause=0.001)
EVENT = {"user_id": "42", "type": "foreground"}


@pytest.mark.parametrize("act", [stall, trickle({**RANKING, "filler": "x" * 5_000})], ids=["stalls", "trickles"])
def test_a_blocking_call_ends_with_its_budget(act: Act) -> None:
    with ScriptedServer(act) as server, RankerClient(server.url, budget=SHORT) as ranker:
        began = time.monotonic()
        with pytest.raises(DeadlinePassed):
            ranker.rank("42", ["i1"])
        assert SHORT <= time.monotonic() - began < FAR_LESS
        assert len(server.asked) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("act", [stall, trickle({**RANKING, "filler": "x" * 5_000})], ids=["stalls", "trickles"])
async def test_an_asynchronous_call_ends_with_its_budget(act: Act) -> None:
    with ScriptedServer(act) as server:
        async with AsyncRankerClient(server.url, budget=SHORT) as ranker:
            began = time.monotonic()
            with pytest.raises(DeadlinePassed):
                await ranker.rank("42", ["i1"])
            assert time.monotonic() - began < FAR_LESS


@pytest.mark.parametrize("after", [0, 10, len(whole(RANKING)) - 1])
def test_an_answer_that_is_cut_off_is_asked_for_again(after: int) -> None:
    with ScriptedServer(cut(RANKING, after), answer(RANKING)) as server, _client(server) as ranker:
        assert ranker.rank("42", ["i1"]).model == "m"
        assert len(server.asked) == 2


@pytest.mark.parametrize("after", [0, len(whole(STORED)) - 1])
def test_feedback_without_a_key_is_not_sent_again_once_it_may_have_arrived(after: int) -> None:
    with ScriptedServer(cut(STORED, after)) as server, _client(server) as ranker:
        with pytest.raises(NoAnswer):
            ranker.send_feedback([EVENT])
        assert len(server.asked) == 1
        with pytest.raises(NoAnswer):
            ranker.send_feedback([{**EVENT, "event_id": "e"}])
        assert len(server.asked) == 4


def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    with ScriptedServer(answer(RANKING, keeps=False)) as server:
        with RankerClient(server.url, budget=PATIENT, retries=Retries(most=0)) as ranker:
            for _ in range(5):
                assert ranker.rank("42", ["i1"]).model == "m"
                time.sleep(0.02)  # the end of the connection arrives
        assert server.connections == 5


@pytest.mark.parametrize("body", [b"<html>a proxy's page</html>", b"{}", b"[]", b"\xff"])
def test_an_answer_of_something_else_is_no_answer(body: bytes) -> None:
    with ScriptedServer(answer(body)) as server, _client(server) as ranker:
        with pytest.raises(NoAnswer, match="200 is not an answer of the service"):
            ranker.rank("42", ["i1"])
        with pytest.raises(NoAnswer):
            ranker.append_behaviours([{}])
        assert len(server.asked) == 2


def test_an_answer_whose_gzip_is_damaged_is_no_answer() -> None:
    act = answer(b"not gzip", content_encoding="gzip")
    with ScriptedServer(act) as server, _client(server) as ranker, pytest.raises(NoAnswer):
        ranker.rank("42", ["i1"])


def test_a_moment_to_retry_after_is_read_by_the_servers_clock() -> None:
    now = datetime(2020, 1, 1, tzinfo=UTC)  # of a server whose clock is wrong
    date, later = (format_datetime(moment, usegmt=True) for moment in (now, now + timedelta(seconds=60)))
    with ScriptedServer(answer(BUSY, 503, date=date, retry_after=later)) as server, _client(server) as ranker:
        with pytest.raises(Refused) as refused:
            ranker.rank("42", ["i1"])
        assert (refused.value.retry_after, len(server.asked)) == (60.0, 1)


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "٣", "Wed, 99 Foo 2026 00:00:00 GMT"])
def test_a_retry_after_that_cannot_be_read_is_ignored(text: str) -> None:
    assert pause_asked_for(text, None) is None


def test_a_moment_that_has_passed_is_no_pause() -> None:
    assert pause_asked_for("Wed, 21 Oct 2015 07:28:00 GMT", None) == 0
    assert pause_asked_for("Wed, 21 Oct 2015 07:28:00 GMT", "nonsense") == 0


def test_large_requests_are_compressed_if_asked_for() -> None:
    with ScriptedServer(answer(RANKING)) as server:
        with RankerClient(server.url, budget=PATIENT, compress=True) as ranker:
            ranker.rank("42", ["i1"])
            ranker.rank("42", [f"item-{number}" for number in range(2_000)])
        with RankerClient(server.url, budget=PATIENT) as ranker:
            ranker.rank("42", [f"item-{number}" for number in range(2_000)])
    small, large, plain = (asked.partition(b"\r\n\r\n") for asked in server.asked)
    assert [b"content-encoding: gzip" in one[0].lower() for one in (small, large, plain)] == [False, True, False]
    assert gzip.decompress(large[2]) == plain[2]
    assert len(json.loads(plain[2])["candidates"]) == 2_000
    assert len(large[2]) < len(plain[2]) / 3


@pytest.mark.anyio
async def test_cancelled_calls_leave_their_connections_to_others() -> None:
    with ScriptedServer(*[stall] * 6, answer(RANKING)) as server:
        async with AsyncRankerClient(server.url, budget=PATIENT, connections=2) as ranker:
            for _ in range(3):
                calls = [asyncio.create_task(ranker.rank("42", ["i1"])) for _ in range(2)]
                count = len(server.asked) + 2
                while len(server.asked) < count:  # noqa: ASYNC110 - another thread's
                    await asyncio.sleep(0.005)
                for call in calls:
                    call.cancel()
                ended = await asyncio.gather(*calls, return_exceptions=True)
                assert [type(one) for one in ended] == [asyncio.CancelledError] * 2
            assert (await ranker.rank("42", ["i1"])).model == "m"


def _client(server: ScriptedServer) -> RankerClient:
    return RankerClient(server.url, budget=PATIENT, retries=QUICK)
