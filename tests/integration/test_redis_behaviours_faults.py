"""Stored behaviours before a Redis that is frozen, killed, full, busy or absent, and callers who leave."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from contract.behaviours.records import pack
from service.redis import health
from service.store.behaviours import AppendResult, StoreUnavailable
from tests.support.behaviour_store import (
    FROZEN_READ_SECONDS,
    open_store,
    records,
    until,
)
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.anyio]


async def test_lost_script_is_sent_again(redis_server: RedisServer) -> None:
    async with open_store(redis_server) as (store, observer):
        await store.append({"a": records(1)})
        redis_server.call("SCRIPT", "FLUSH")
        assert await store.append({"a": records(2), "b": records(1)}) == {
            "a": AppendResult(stored=1, repeated=1),
            "b": AppendResult(stored=1),
        }
        assert await store.append({"a": records(3)}) == {"a": AppendResult(stored=1, repeated=2)}
    assert not observer.errors


async def test_full_redis_refuses_appends_and_still_answers_reads(own_redis: RedisServer) -> None:
    async with open_store(own_redis) as (store, _):
        await store.append({"a": records(3)})
        own_redis.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreUnavailable):
            await store.append({"b": records(1)})
        [stored] = await store.read(["a"])
    assert (stored.status, len(stored.records)) == ("ok", 3)


@pytest.mark.slow
async def test_frozen_redis_opens_the_breaker_and_is_then_not_asked_until_a_probe_comes_back(
    own_redis: RedisServer,
) -> None:
    async with open_store(own_redis, read_seconds=FROZEN_READ_SECONDS) as (store, observer):
        await store.append({"a": records(3)})
        own_redis.freeze()
        statuses = [(await store.read(["a", "b"]))[0].status for _ in range(2)]
        assert statuses == ["unavailable"] * 2
        assert observer.breaker_open
        asked = observer.errors["timeout"]
        for _ in range(1000):
            await store.read(["a"])
        assert observer.errors["timeout"] == asked
        with pytest.raises(StoreUnavailable):
            await store.append({"a": records(1)})
        own_redis.thaw()

        async def back() -> bool:
            [stored] = await store.read(["a"])
            return stored.status == "ok" and len(stored.records) == 3

        await until(back)
    assert observer.up
    assert not observer.breaker_open


async def test_server_that_is_back_is_found_without_a_request_and_old_failures_are_forgotten(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(own_redis) as (store, observer):
        own_redis.kill()
        while not observer.breaker_open:
            await store.read(["a"])
        assert not observer.up
        own_redis.start()
        while observer.breaker_open:  # noqa: ASYNC110 - until a probe has come back
            await asyncio.sleep(0.005)
        assert not observer.up  # the last read failed
        monkeypatch.setattr(health, "_FORGET_SECONDS", 0.0)
        assert observer.up


async def test_writes_are_down_while_every_append_is_refused_though_reads_are_well(own_redis: RedisServer) -> None:
    async with open_store(own_redis) as (store, observer):
        reads, writes = observer.clients
        await store.append({"a": records(1)})
        assert writes.state().is_up
        own_redis.call("CONFIG", "SET", "maxmemory", "1")
        for _ in range(10):
            with pytest.raises(StoreUnavailable):
                await store.append({"b": records(1)})
            assert (await store.read(["a"]))[0].status == "ok"
        assert (reads.state(), writes.state()) == ((True, 0), (False, 0))
        own_redis.call("CONFIG", "SET", "maxmemory", "0")
        await store.append({"b": records(1)})
        assert writes.state().is_up


async def test_server_that_became_a_replica_refuses_appends_and_is_not_left_alone(own_redis: RedisServer) -> None:
    async with open_store(own_redis) as (store, observer):
        await store.append({"a": records(1)})
        own_redis.call("REPLICAOF", "127.0.0.1", "1")
        for _ in range(10):
            with pytest.raises(StoreUnavailable):
                await store.append({"a": records(2)})
        assert set(observer.errors) == {"wrong_server"}
        assert not observer.clients[1].state().is_up
        assert not observer.breaker_open
        own_redis.call("REPLICAOF", "NO", "ONE")
        assert await store.append({"a": records(2)}) == {"a": AppendResult(stored=1, repeated=1)}


async def test_killed_redis_degrades_and_is_found_again_when_it_is_back(own_redis: RedisServer) -> None:
    async with open_store(own_redis) as (store, observer):
        assert await store.ping()
        own_redis.kill()
        for _ in range(5):
            assert [one.status for one in await store.read(["a"])] == ["unavailable"]
        assert not await store.ping()
        assert observer.errors["connection"] >= 2
        own_redis.start()

        async def back() -> bool:
            return (await store.read(["a"]))[0].status == "ok"

        await until(back)

        async def takes_appends() -> bool:
            try:
                return bool(await store.append({"a": records(1)}))
            except StoreUnavailable:  # until the appends' own breaker has probed
                return False

        await until(takes_appends)


async def test_redis_that_was_never_there_is_unavailable_and_nothing_raises(own_redis: RedisServer) -> None:
    own_redis.kill()
    async with open_store(own_redis) as (store, _):
        assert [one.status for one in await store.read(["a", "b"])] == ["unavailable"] * 2
        with pytest.raises(StoreUnavailable):
            await store.append({"a": records(1)})


async def test_loading_or_busy_redis_is_unavailable(own_redis: RedisServer) -> None:
    async with open_store(own_redis) as (store, observer):
        own_redis.call("CONFIG", "SET", "lua-time-limit", "1")
        busy = asyncio.create_task(asyncio.to_thread(own_redis.call, "EVAL", "while true do end", "0"))

        async def is_busy() -> bool:
            return (await asyncio.to_thread(own_redis.call, "PING")).startswith(b"-BUSY")

        await until(is_busy)
        assert [one.status for one in await store.read(["a", "b"])] == ["unavailable"] * 2
        assert observer.errors
        own_redis.call("SCRIPT", "KILL")
        await busy


async def test_cancelled_reader_leaves_no_reply_to_the_next_one(redis_server: RedisServer) -> None:
    async with open_store(redis_server) as (store, observer):
        users = [f"user-{place}" for place in range(20)]
        await store.append({user: records(1, first=place) for place, user in enumerate(users)})
        rng = np.random.default_rng(3)

        async def read(place: int) -> bytes:
            return (await store.read([users[place]]))[0].records.tobytes()

        for _ in range(200):
            places = rng.integers(0, 20, 4).tolist()
            tasks = [asyncio.create_task(read(place)) for place in places]
            for _ in range(int(rng.integers(0, 6))):
                await asyncio.sleep(0)
            tasks[0].cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            for place, answer in list(zip(places, answers, strict=True))[1:]:
                assert answer == pack(records(1, first=place))
    assert not observer.errors
