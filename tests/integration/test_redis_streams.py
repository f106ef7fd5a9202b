"""The event stream against a real Redis: all arrive, a dead Redis costs the caller nothing, what is lost is counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from contract.events.streams import EVENT_FIELD
from service.redis.client import Client, Command, make_client
from service.store.streams import EventStream
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

STREAM = "test:events"


class Drops(Counter[tuple[str, ...]]):
    def __call__(self, labels: tuple[str, ...]) -> None:
        self[labels] += 1


@asynccontextmanager
async def open_client(server: RedisServer, timeout_seconds: float = 10.0) -> AsyncIterator[Client]:
    client = make_client(server.url, timeout_seconds=timeout_seconds)
    try:
        yield client
    finally:
        await client.aclose()


async def events_in(client: Client) -> list[bytes]:
    [entries] = await client.run([Command(STREAM.encode(), ("XRANGE", STREAM, "-", "+"))])
    return [event for _, (name, event) in entries if name == EVENT_FIELD]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the condition is another task's
        await asyncio.sleep(0.002)


async def test_events_arrive_in_order_in_batches(redis_server: RedisServer) -> None:
    drops = Drops()
    async with open_client(redis_server) as client:
        stream = EventStream(client, STREAM, on_drop=drops, interval_seconds=0.01)
        stream.start()
        expected = [b"event-%d" % place for place in range(1000)]
        assert all(stream.offer(event) for event in expected)
        await until(lambda: len(stream) == 0)
        assert await events_in(client) == expected
        await stream.close()
    assert not drops


async def test_one_event_does_not_wait_for_company_for_ever(redis_server: RedisServer) -> None:
    async with open_client(redis_server) as client:
        stream = EventStream(client, STREAM, on_drop=Drops(), interval_seconds=0.01)
        stream.start()
        stream.offer(b"alone")
        await until(lambda: len(stream) == 0)
        assert await events_in(client) == [b"alone"]
        await stream.close()


async def test_closing_writes_what_waits_and_takes_nothing_more(redis_server: RedisServer) -> None:
    drops = Drops()
    async with open_client(redis_server) as client:
        stream = EventStream(client, STREAM, on_drop=drops, interval_seconds=3600)
        stream.start()
        for place in range(700):
            stream.offer(b"%d" % place)
        await stream.close()
        assert len(await events_in(client)) == 700
        assert not stream.offer(b"late", ("exp", "arm"))
    assert drops == {("exp", "arm"): 1}


async def test_full_queue_drops_the_newest_and_counts_them_by_label(own_redis: RedisServer) -> None:
    own_redis.kill()
    drops = Drops()
    async with open_client(own_redis) as client:
        stream = EventStream(client, STREAM, on_drop=drops, max_queue=100)
        taken = [stream.offer(b"%d" % place, ("exp", "ab"[place % 2])) for place in range(150)]
        assert taken == [True] * 100 + [False] * 50
        assert drops == {("exp", "a"): 25, ("exp", "b"): 25}
        await stream.close()
    assert drops == {("exp", "a"): 75, ("exp", "b"): 75}


async def test_events_of_an_outage_are_written_when_redis_is_back(own_redis: RedisServer) -> None:
    drops = Drops()
    async with open_client(own_redis, 0.1) as client:
        stream = EventStream(client, STREAM, on_drop=drops, interval_seconds=0.01)
        stream.start()
        stream.offer(b"before")
        await until(lambda: len(stream) == 0)
        own_redis.freeze()
        for place in range(300):
            assert stream.offer(b"%d" % place)
        assert len(stream) == 300
        own_redis.thaw()
        await until(lambda: len(stream) == 0)
        written = await events_in(client)
        # At least once: a batch whose reply was lost may be there twice.
        assert list(dict.fromkeys(written)) == [b"before", *(b"%d" % place for place in range(300))]
        await stream.close()
    assert not drops


async def test_key_of_another_type_drops_and_counts_instead_of_filling_the_queue(redis_server: RedisServer) -> None:
    redis_server.call("SET", STREAM, "text")
    drops = Drops()
    async with open_client(redis_server) as client:
        stream = EventStream(client, STREAM, on_drop=drops, interval_seconds=0.01)
        stream.start()
        for _ in range(10):
            stream.offer(b"event", ("exp", "arm"))
        await until(lambda: drops.total() == 10)
        assert len(stream) == 0
        await stream.close()


async def test_stream_is_kept_near_its_length(redis_server: RedisServer) -> None:
    async with open_client(redis_server) as client:
        stream = EventStream(client, STREAM, on_drop=Drops(), max_length=500, interval_seconds=0.01)
        stream.start()
        for place in range(3000):
            stream.offer(b"%d" % place)
        await stream.close()
        assert 500 <= len(await events_in(client)) <= 700
        assert (await events_in(client))[-1] == b"2999"


async def test_closing_does_not_wait_for_a_frozen_redis(own_redis: RedisServer) -> None:
    drops = Drops()
    async with open_client(own_redis, 30) as client:
        stream = EventStream(client, STREAM, on_drop=drops)
        stream.start()
        own_redis.freeze()
        stream.offer(b"event", ("exp", "arm"))
        await stream.close(timeout_seconds=0.05)
        own_redis.thaw()
    assert drops == {("exp", "arm"): 1}
