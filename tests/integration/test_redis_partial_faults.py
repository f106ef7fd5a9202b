"""Faults that hit some replies and spare others: what is answered, refused and stored, behind a real bad network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection

from service.redis import node as redis_node
from service.redis.replication import Words
from service.store.behaviours import StoreUnavailable
from tests.support.behaviour_store import key, open_rig, records
from tests.support.fault_proxy import fault_proxy
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

USERS = [f"user-{place}" for place in range(20)]
CUT = 0.3
TIMES = 400


async def test_link_that_cuts_some_replies_degrades_fewer_answers_than_it_cuts(port_redis: RedisServer) -> None:
    async with fault_proxy(port_redis.port) as proxy, open_rig(f"redis://127.0.0.1:{proxy.port}") as rig:
        await rig.store.append({user: records(1) for user in USERS})
        proxy.cut_share = CUT

        async def caller(place: int) -> int:
            degraded = 0
            for turn in range(TIMES // 4):
                found = await rig.store.read(USERS[: 1 + (turn + place) % len(USERS)])
                degraded += found[0].status != "ok"
                assert all(len(one.records) == (one.status == "ok") for one in found)  # no user gets another's
                await asyncio.sleep(0.005)
            return degraded

        degraded = sum(await asyncio.gather(*[caller(place) for place in range(4)]))
        assert proxy.cuts > TIMES * CUT / 2
        assert degraded < TIMES * CUT
        assert not rig.observer.breaker_open


async def test_link_that_cuts_some_replies_refuses_few_appends_and_loses_none(port_redis: RedisServer) -> None:
    async with fault_proxy(port_redis.port) as proxy, open_rig(f"redis://127.0.0.1:{proxy.port}") as rig:
        proxy.cut_share = CUT
        stored = []
        for place in range(TIMES):
            user = f"new-{place}"
            try:
                [result] = (await rig.store.append({user: records(1)})).values()
            except StoreUnavailable:
                continue
            assert result.stored + result.repeated == 1
            stored.append(user)
        assert TIMES - len(stored) < TIMES * CUT
        assert [user for user in stored if port_redis.call("STRLEN", key(user)) != b":24\r\n"] == []


async def test_link_that_cuts_every_reply_is_soon_left_alone(port_redis: RedisServer) -> None:
    async with fault_proxy(port_redis.port) as proxy, open_rig(f"redis://127.0.0.1:{proxy.port}") as rig:
        proxy.cut_share = 1.0
        while not rig.observer.breaker_open:
            assert [one.status for one in await rig.store.read(USERS[:1])] == ["unavailable"]
        asked = rig.observer.errors["connection"]
        for _ in range(1000):
            await rig.store.read(USERS)
        assert rig.observer.errors["connection"] == asked  # only probes are sent


async def test_flood_of_appends_leaves_redis_and_the_loop_to_the_reads(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = redis_node._ask
    under_way, most, sizes = 0, 0, set()

    async def counted(connection: AbstractConnection, commands: Sequence[Words]) -> list[Any]:
        nonlocal under_way, most
        if commands[0][0] != "EVALSHA":
            return await ask(connection, commands)
        under_way += 1
        most = max(most, under_way)
        sizes.add(len(commands))
        try:
            return await ask(connection, commands)
        finally:
            under_way -= 1

    async with open_rig(redis_server.url, write_seconds=30) as rig:
        await rig.store.append({"reader": records(3)})
        monkeypatch.setattr(redis_node, "_ask", counted)
        flood = [
            asyncio.create_task(rig.store.append({f"user-{caller}-{place}": records(2) for place in range(200)}))
            for caller in range(32)
        ]
        while not all(task.done() for task in flood):
            assert [one.status for one in await rig.store.read(["reader"])] == ["ok"]
        assert all(result.stored == 2 for task in flood for result in task.result().values())
        assert not rig.observer.breaker_open
    assert most <= 2
    assert max(sizes) <= 64
