"""The fake store does what the real one does, as far as the routes can see."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.metrics import Metrics
from service.redis.client import make_client
from service.store.behaviours import RedisBehaviourStore
from tests.support.builders import behaviours
from tests.support.fakes import FakeStore
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.anyio]


@pytest.fixture
async def real(redis_server: RedisServer) -> AsyncIterator[RedisBehaviourStore]:
    clients = [make_client(redis_server.url, timeout_seconds=5) for _ in range(2)]
    store = RedisBehaviourStore(
        clients[0], clients[1], read_length=100, max_length=1_000, ttl_seconds=0,
        observer=Metrics(),
    )  # fmt: skip
    yield store
    await store.close()


async def test_appending_and_reading_agree(real: RedisBehaviourStore, redis_server: RedisServer) -> None:
    redis_server.call("LPUSH", "bhv:{wrong}", "x")
    fake = FakeStore(wrong=frozenset({"wrong"}))
    late, early = behaviours(["i3", "i1"], start_ms=50), behaviours(["i2"], start_ms=7)
    for batch in ({"a": late, "wrong": early}, {"a": late, "b": early}, {"a": early}):
        assert await fake.append(batch) == await real.append(batch)
    expected, found = await fake.read(["a", "b", "wrong", "nobody"]), await real.read(["a", "b", "wrong", "nobody"])
    for one, other in zip(expected, found, strict=True):
        assert (one.status, one.corrupt, one.truncated) == (other.status, other.corrupt, other.truncated)
        assert one.records.tobytes() == other.records.tobytes()
