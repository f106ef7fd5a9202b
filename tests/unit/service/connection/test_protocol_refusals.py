"""A ranking that is one too many is refused at once, and nothing else about its connection changes."""

from __future__ import annotations

import pytest

from service.connection.protocol import GuardedProtocol
from service.settings.limits import LimitsSettings
from service.settings.root import Settings
from tests.support import ports
from tests.support.fakes import Edge
from tests.support.ports import LIVE, post, serving

pytestmark = pytest.mark.anyio

REFUSED = '{route="/rank",status="429",variant="none"}'


async def test_a_ranking_too_many_is_refused_and_counted_with_a_known_head_or_a_new_one() -> None:
    edge = Edge(Settings(limits=LimitsSettings(max_inflight=1)))
    gate = edge.runtime.admission.rankings
    async with serving(edge) as port:
        connection = await port.connect()
        assert gate.enter()
        for number in range(4):
            connection.send(post(b"X-Request-Id: id-%d" % number))
            answer = await connection.answer()
            assert answer is not None
            assert (answer.status, answer.header(b"retry-after")) == (429, [b"1"])
            assert answer.header(b"x-request-id") == [b"id-%d" % number]
        connection.send(post() * 2)
        answers = [await connection.answer() for _ in range(2)]
        assert [answer.status for answer in answers if answer is not None] == [429] * 2
        connection.send(LIVE)
        assert (await connection.answer()) is not None
        gate.leave(0.0)
        connection.send(post())
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 200
        await connection.close()
        assert port.count("ranker_requests_total", REFUSED) == 6
        assert port.count("ranker_rejected_total", '{reason="overloaded"}') == 6
        assert edge.samples("ranker_inflight_requests") == {"": 0}
        assert len(edge.ranker.asked) == 1


async def test_a_connection_whose_rankings_are_refused_is_not_idle() -> None:
    if not ports.HAS_SHORT_WAY:
        pytest.skip("there, every answer begins a timer of its own")
    edge = Edge(Settings(limits=LimitsSettings(max_inflight=1)))
    async with serving(edge) as port:
        connection = await port.connect()
        edge.runtime.admission.rankings.enter()
        for _ in range(2):
            connection.send(post())
            assert await connection.answer() is not None
        [protocol] = port.state.connections
        assert isinstance(protocol, GuardedProtocol)
        protocol.timeout_keep_alive_handler()
        connection.send(post())
        assert await connection.answer() is not None
        protocol._used_at -= 3_600
        protocol.timeout_keep_alive_handler()
        assert await connection.ends()
        await connection.close()
