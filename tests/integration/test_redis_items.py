"""Features of items against a real Redis: stored by one process, read once by another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Any

import msgspec
import pytest

from contract.behaviours.records import item_keys
from service.redis.client import make_client
from service.store import items as module
from service.store.behaviours import StoreUnavailable
from service.store.items import FRESH_SECONDS, ItemStore, packed_size
from tests.support.behaviour_store import Observer
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

SPORT: Mapping[str, object] = {"category": "sport", "tags": ["cup", 3], "words": 480, "length": 2.5}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(url: str, *, prefix: str = "", ttl: int = 0) -> AsyncIterator[tuple[ItemStore, Observer, Clock]]:
    observer, clock = Observer(), Clock()
    clients = (make_client(url, timeout_seconds=2.0), make_client(url, timeout_seconds=2.0))
    options: Any = {"observer": observer, "clock": clock, "prefix": prefix, "ttl_seconds": ttl}
    store = ItemStore(*clients, **options)
    try:
        yield store, observer, clock
    finally:
        await store.close()


def name_of(item_id: str) -> str:
    """Return the item's name in Redis without the prefix."""
    return f"item:{{{int.from_bytes(blake2b(item_id.encode(), digest_size=8).digest(), 'little'):016x}}}"


def found(store: ItemStore, *item_ids: str) -> dict[str, Any]:
    """Return the features that are in memory, by item id."""
    return dict(store.find(item_ids))


async def read(store: ItemStore, *item_ids: str) -> dict[str, Any]:
    """Ask, wait for the read in the background, and ask again."""
    found(store, *item_ids)
    while store._task is not None:
        await asyncio.wait([store._task])
    return found(store, *item_ids)


async def test_what_one_process_stores_another_has_at_the_second_time(redis_server: RedisServer) -> None:
    async with opened(redis_server.url) as (writer, _, _), opened(redis_server.url) as (reader, observer, _):
        await writer.store({"a1": SPORT, "a2": {}})
        assert found(writer, "a1", "a2", "a3") == {"a1": SPORT, "a2": {}}
        assert found(reader, "a1", "a2", "a3") == {}
        assert await read(reader, "a1", "a2", "a3") == {"a1": SPORT, "a2": {}}
        assert not observer.errors


async def test_the_value_is_messagepack_under_the_item_s_key_with_a_time_to_live(redis_server: RedisServer) -> None:
    async with opened(redis_server.url, prefix="staging:", ttl=90) as (store, _, _):
        await store.store({"a}1": SPORT})
        value = redis_server.call("GET", "staging:" + name_of("a}1")).partition(b"\r\n")[2].removesuffix(b"\r\n")
        assert msgspec.msgpack.decode(value) == SPORT
        assert len(value) == packed_size(SPORT)
        assert 0 < int(redis_server.call("TTL", "staging:" + name_of("a}1"))[1:]) <= 90


async def test_an_item_is_read_once_a_minute_with_features_or_without(redis_server: RedisServer) -> None:
    async with opened(redis_server.url) as (writer, _, _), opened(redis_server.url) as (reader, _, clock):
        assert await read(reader, "a1") == {}
        await writer.store({"a1": SPORT})
        assert await read(reader, "a1") == {}  # known to have none
        clock.now += FRESH_SECONDS
        assert await read(reader, "a1") == {"a1": SPORT}
        await writer.store({"a1": {"category": "law"}})
        assert await read(reader, "a1") == {"a1": SPORT}
        clock.now += FRESH_SECONDS
        assert await read(reader, "a1") == {"a1": {"category": "law"}}


@pytest.mark.parametrize("value", ["junk", "\x81", "[1]", ""])
async def test_bytes_of_another_program_are_no_features(redis_server: RedisServer, value: str) -> None:
    redis_server.call("SET", name_of("a1"), value)
    async with opened(redis_server.url) as (store, _, _):
        assert await read(store, "a1") == {}


async def test_a_key_of_another_type_counts_as_an_error_and_hurts_no_other(redis_server: RedisServer) -> None:
    redis_server.call("RPUSH", name_of("a1"), "x")
    async with opened(redis_server.url) as (store, observer, _):
        await store.store({"a2": SPORT})
        assert await read(store, "a1", "a2") == {"a2": SPORT}
        assert observer.errors == {"wrong_type": 1}


async def test_without_a_server_storing_fails_and_reading_gives_nothing() -> None:
    async with opened("redis://127.0.0.1:1") as (store, observer, _):
        with pytest.raises(StoreUnavailable):
            await store.store({"a1": SPORT})
        assert await read(store, "a1") == {}
        assert observer.errors["connection"] >= 1


async def test_memory_is_bounded_and_the_oldest_leave(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 3)
    async with opened(redis_server.url) as (store, _, _):
        for number in range(5):
            await store.store({f"a{number}": {"words": number}})
        assert len(store._kept) == 3
        assert set(found(store, *(f"a{number}" for number in range(5)))) == {"a2", "a3", "a4"}


async def test_items_that_were_never_read_are_read_at_once_and_only_once(redis_server: RedisServer) -> None:
    async with opened(redis_server.url) as (writer, _, _), opened(redis_server.url) as (reader, _, clock):
        await writer.store({"a1": SPORT})
        keys: list[int] = item_keys(["a1", "a2"]).tolist()
        assert reader.missing(keys) == keys
        await reader.read(keys)
        assert reader.missing(keys) == []
        assert found(reader, "a1", "a2") == {"a1": SPORT}
        clock.now += 10 * FRESH_SECONDS
        assert reader.missing(keys) == []  # old ones are read in the background
        assert found(reader, "a1", "a2") == {"a1": SPORT}


async def test_a_round_trip_reads_at_most_500_items(redis_server: RedisServer) -> None:
    async with opened(redis_server.url) as (store, _, _):
        await store.read(range(2_000))
        assert len(store._kept) == 500


async def test_without_a_server_an_item_counts_as_read_for_a_while() -> None:
    async with opened("redis://127.0.0.1:1") as (store, observer, _):
        await store.read([1, 2])
        assert store.missing([1, 2]) == []
        assert observer.errors["connection"] >= 1
