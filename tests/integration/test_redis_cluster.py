"""Behaviours in a real Cluster: nodes that move, a shard that is down, slots that move while users are read."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from redis.crc import key_slot

from service.behaviours import StoreUnavailable
from tests.behaviour_store import OpenStore, open_rig, quick_breaker, records, until
from tests.fault_proxy import fault_proxy
from tests.redis_topology import SLOTS, cluster, until_true

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

USERS = [f"user-{place}" for place in range(60)]


async def statuses(rig: OpenStore) -> Counter[str]:
    return Counter(stored.status for stored in await rig.store.read(USERS))


async def lengths(rig: OpenStore) -> Counter[int]:
    return Counter(len(stored.records) for stored in await rig.store.read(USERS))


async def append_each(rig: OpenStore) -> Counter[str]:
    counts: Counter[str] = Counter()
    for user in USERS:
        try:
            await rig.store.append({user: records(1)})
            counts["stored"] += 1
        except StoreUnavailable:
            counts["refused"] += 1
    return counts


async def test_cluster_that_comes_back_under_new_addresses_is_found_again() -> None:
    with cluster(3) as nodes:
        await until_true(nodes.is_whole)
        # The configured name leads to a node wherever it is, as a DNS name does.
        async with fault_proxy(nodes.nodes[1].port) as name, open_rig(nodes.url(name.port)) as rig:
            assert await append_each(rig) == {"stored": len(USERS)}
            nodes.move()
            name.target = nodes.nodes[1].port
            await until_true(nodes.is_whole)

            async def is_found() -> bool:
                return await statuses(rig) == {"ok": len(USERS)} and await append_each(rig) == {"stored": len(USERS)}

            async with asyncio.timeout(30):
                await until(is_found)


async def test_shard_that_is_down_degrades_its_own_users_only() -> None:
    with cluster(3) as nodes:
        await until_true(nodes.is_whole)
        down = key_slot(b"bhv:{}") * 3 // SLOTS  # where a start-up asks for the first key
        lost = sum(nodes.place_of(user) == down for user in USERS)
        assert 0 < lost < len(USERS)
        one = next(user for user in USERS if nodes.place_of(user) != down)
        async with open_rig(nodes.url(nodes.nodes[(down + 1) % 3].port), breaker=quick_breaker) as rig:
            assert await rig.store.ping()
            await append_each(rig)
            nodes.nodes[down].kill()
            for _ in range(20):
                assert await statuses(rig) == {"ok": len(USERS) - lost, "unavailable": lost}
                assert [stored.status for stored in await rig.store.read([one])] == ["ok"]
            assert await append_each(rig) == {"stored": len(USERS) - lost, "refused": lost}
            assert rig.reads.state() == rig.writes.state() == (True, 1)
            nodes.nodes[down].start()

            async def is_back() -> bool:
                return await statuses(rig) == {"ok": len(USERS)}

            async with asyncio.timeout(30):
                await until(is_back)
