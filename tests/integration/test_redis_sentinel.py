"""Behaviours behind real Sentinels: a planned failover under appends, and Sentinels that are gone."""

from __future__ import annotations

import asyncio

import pytest

from service.redis.client import Confirmation, make_client
from service.store.behaviours import AppendResult, StoreUnavailable
from service.store.streams import EventStream
from tests.support.behaviour_store import OpenStore, key, open_rig, records, until
from tests.support.redis_topology import ask, until_true, watched

pytestmark = [pytest.mark.redis, pytest.mark.anyio]


async def append(rig: OpenStore, user: str) -> str:
    try:
        results = await rig.store.append({user: records(1)})
    except StoreUnavailable:
        return "refused"
    return "stored" if results == {user: AppendResult(stored=1)} else "other"


async def read_status(rig: OpenStore, user: str) -> str:
    [stored] = await rig.store.read([user])
    return stored.status


@pytest.mark.slow
async def test_no_acknowledged_append_is_lost_in_a_planned_failover() -> None:
    with watched(sentinels=3) as parts:
        await until_true(parts.is_ready)
        async with open_rig(parts.url) as rig:
            assert await append(rig, "before") == "stored"
            assert rig.observer.unconfirmed == 0
            await until_true(parts.fail_over)
            seen: dict[str, str] = {}
            after = 0
            while after < 30:
                user = f"user-{len(seen)}"
                seen[user] = await append(rig, user)
                after += parts.role(1) == "master" and seen[user] == "stored"
                await asyncio.sleep(0.02)
            assert await read_status(rig, "before") == "ok"
        stored = [user for user, result in seen.items() if result == "stored"]
        present = [user for user in stored if ask(parts.servers[1].port, "EXISTS", key(user))]
        assert present == stored


@pytest.mark.slow
async def test_rankings_read_from_the_new_primary() -> None:
    with watched(sentinels=1) as parts:
        await until_true(parts.is_ready)
        async with open_rig(parts.url) as rig:
            assert await read_status(rig, "a") == "ok"
            await until_true(parts.fail_over)
            await until_true(lambda: parts.sentinels[0].names() == parts.servers[1].port)
            ask(parts.servers[1].port, "SET", key("a"), records(3).tobytes())

            async def sees_it() -> bool:
                [stored] = await rig.store.read(["a"])
                return len(stored.records) == 3

            async with asyncio.timeout(60):
                await until(sees_it)


async def test_last_known_primary_is_used_when_all_sentinels_and_connections_are_gone() -> None:
    with watched(sentinels=3) as parts:
        await until_true(parts.is_ready)
        async with open_rig(parts.url) as rig:
            assert await append(rig, "a") == "stored"
            assert await read_status(rig, "a") == "ok"
            for sentinel in parts.sentinels:
                sentinel.kill()
            for _ in range(3):
                assert ask(parts.servers[0].port, "CLIENT", "KILL", "TYPE", "normal") is not None
                assert await read_status(rig, "a") == "ok"
            assert await append(rig, "b") == "stored"
            assert rig.reads.state().is_up


async def test_nothing_is_known_before_a_sentinel_has_answered_once() -> None:
    async with open_rig("redis+sentinel://127.0.0.1:1/main") as rig:
        assert await read_status(rig, "a") == "unavailable"
        assert await append(rig, "a") == "refused"
        assert rig.observer.errors == {"connection": 2}
        assert not rig.reads.state().is_up


@pytest.mark.slow
async def test_events_written_during_a_planned_failover_are_kept() -> None:
    with watched(sentinels=1) as parts:
        await until_true(parts.is_ready)
        client = make_client(parts.url, timeout_seconds=0.5, confirmation=Confirmation(lambda: None))
        dropped: list[object] = []
        stream = EventStream(client, "events", on_drop=dropped.append, max_batch=8, interval_seconds=0.01)
        stream.start()
        try:
            count = 0
            await until_true(parts.fail_over)
            while count < 500 or parts.role(1) != "master":
                count += stream.offer(b"%d" % count)
                await asyncio.sleep(0.002)
            async with asyncio.timeout(60):
                while len(stream):  # noqa: ASYNC110 - another task's
                    await asyncio.sleep(0.02)
        finally:
            await stream.close()
            await client.aclose()
        entries = ask(parts.servers[1].port, "XRANGE", "events", "-", "+")
        assert {fields["event"] for _, fields in entries} == {str(number) for number in range(count)}
        assert not dropped


@pytest.mark.slow
async def test_no_acknowledged_append_is_lost_when_the_primary_dies() -> None:
    with watched(sentinels=3, down_after_ms=500) as parts:
        await until_true(parts.is_ready)
        await until_true(lambda: all(sentinel.knows_all(others=2) for sentinel in parts.sentinels))
        async with open_rig(parts.url) as rig:
            seen: dict[str, str] = {}
            for _ in range(50):
                seen[f"user-{len(seen)}"] = await append(rig, f"user-{len(seen)}")
            parts.servers[0].kill()
            after = 0
            async with asyncio.timeout(60):
                while after < 30:
                    user = f"user-{len(seen)}"
                    seen[user] = await append(rig, user)
                    after += parts.role(1) == "master" and seen[user] == "stored"
                    await asyncio.sleep(0.02)
        stored = [user for user, result in seen.items() if result == "stored"]
        assert len(stored) >= 80
        assert [user for user in stored if ask(parts.servers[1].port, "EXISTS", key(user))] == stored
