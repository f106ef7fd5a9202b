"""Behaviours in a real Cluster: nodes that move, a shard that is down, slots that move while users are read."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from redis.crc import key_slot

from service.store.behaviours import StoreUnavailable
from tests.support.behaviour_store import OpenStore, open_rig, quick_breaker, records, until
from tests.support.fault_proxy import fault_proxy
from tests.support.redis_topology import SLOTS, ask, cluster, slot_of, until_true

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


@pytest.mark.slow
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

            async with asyncio.timeout(60):
                await until(is_found)


@pytest.mark.slow
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

            async with asyncio.timeout(60):
                await until(is_back)


@pytest.mark.slow
async def test_users_are_read_and_written_while_their_slots_move() -> None:
    with cluster(2) as nodes:
        await until_true(nodes.is_whole)
        source, target = nodes.nodes
        ids = [ask(node.port, "CLUSTER", "MYID") for node in nodes.nodes]
        async with open_rig(nodes.url()) as rig:
            await append_each(rig)
            moving = sorted({slot_of(user) for user in USERS if nodes.place_of(user) == 0})
            for slot in moving:
                ask(target.port, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
                ask(source.port, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
            for slot in moving:
                for stored in ask(source.port, "CLUSTER", "GETKEYSINSLOT", slot, 100):
                    assert ask(source.port, "MIGRATE", "127.0.0.1", target.port, stored, 0, 5000) == "OK"
            assert await statuses(rig) == {"ok": len(USERS)}  # the source answers ASK
            assert await lengths(rig) == Counter({1: len(USERS)})
            assert await append_each(rig) == {"stored": len(USERS)}
            for slot in moving:
                for node in (target, source):
                    ask(node.port, "CLUSTER", "SETSLOT", slot, "NODE", ids[1])
            assert await lengths(rig) == Counter({1: len(USERS)})  # MOVED
            assert await append_each(rig) == {"stored": len(USERS)}
        assert not rig.observer.errors


@pytest.mark.slow
@pytest.mark.parametrize("is_planned", [True, False])
async def test_no_acknowledged_append_is_lost_when_a_primary_is_replaced(is_planned: bool) -> None:
    with cluster(3, with_replicas=True) as nodes:
        await until_true(nodes.is_whole)
        await until_true(lambda: all(ask(one.port, "CLUSTER", "INFO") for one in nodes.replicas))
        await asyncio.to_thread(nodes.follow)
        await until_true(nodes.is_replicated)
        old, new = nodes.nodes[0], nodes.replicas[0]
        async with open_rig(nodes.url(*[node.port for node in nodes.nodes])) as rig:
            await append_each(rig)
            assert rig.observer.unconfirmed == 0
            seen: list[tuple[str, bool]] = []

            async def writer() -> None:
                while True:
                    user = f"new-{len(seen)}"
                    try:
                        results = await rig.store.append({user: records(1)})
                    except StoreUnavailable:
                        seen.append((user, False))
                    else:
                        seen.append((user, results[user].stored == 1))
                    await asyncio.sleep(0.002)

            writing = asyncio.create_task(writer())
            await asyncio.sleep(0.3)
            if is_planned:
                assert ask(new.port, "CLUSTER", "FAILOVER")
            else:
                old.kill()
            await until_true(lambda: (ask(new.port, "ROLE") or [""])[0] == "master")

            async def is_whole() -> bool:
                return await append_each(rig) == {"stored": len(USERS)}

            async with asyncio.timeout(60):
                await until(is_whole)
            writing.cancel()
            stored = [user for user, is_stored in seen if is_stored]
            assert len(stored) > 50
            assert [len(found.records) for found in await rig.store.read(stored)] == [1] * len(stored)
