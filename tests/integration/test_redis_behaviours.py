"""Stored behaviours against a real Redis: what is read and what is appended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partialmethod

import numpy as np
import pytest

from contract.behaviours.records import RECORD_BYTES, pack, records_from_columns
from service.store import behaviours
from service.store.behaviours import AppendResult, RedisBehaviourStore, StoredBehaviours
from tests.support.behaviour_store import (
    MAX_LENGTH,
    key,
    open_store,
    records,
    stored_bytes,
)
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.anyio]


@pytest.fixture(autouse=True, params=["read", "begin_read"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test reads both ways."""
    if request.param == "begin_read":
        monkeypatch.setattr(RedisBehaviourStore, "read", partialmethod(read_by_call, RedisBehaviourStore.read))


async def read_by_call(
    store: RedisBehaviourStore, read: Callable[..., Awaitable[list[StoredBehaviours]]], user_ids: Sequence[str]
) -> list[StoredBehaviours]:
    future: asyncio.Future[list[StoredBehaviours]] = asyncio.get_running_loop().create_future()
    if not store.begin_read(user_ids, future.set_result):
        await read(store, [""])  # opens a connection
        assert store.begin_read(user_ids, future.set_result)
    return await future


async def test_what_was_appended_is_read_at_once_in_the_order_asked(redis_server: RedisServer) -> None:
    async with open_store(redis_server) as (store, observer):
        assert await store.append({"a": records(3), "b": records(2, first=10)}) == {
            "a": AppendResult(stored=3),
            "b": AppendResult(stored=2),
        }
        first, unknown, second, again = await store.read(["b", "nobody", "a", "b"])
    assert first.records.tobytes() == again.records.tobytes() == pack(records(2, first=10))
    assert second.records.tobytes() == pack(records(3))
    assert len(unknown.records) == 0
    assert {one.status for one in (first, unknown, second, again)} == {"ok"}
    assert observer.up
    assert not observer.errors


async def test_read_returns_the_newest_and_says_that_there_are_older_ones(redis_server: RedisServer) -> None:
    async with open_store(redis_server, read_length=5) as (store, _):
        await store.append({"five": records(5), "six": records(6)})
        five, six = await store.read(["five", "six"])
    assert (five.records.tobytes(), five.truncated) == (pack(records(5)), False)
    assert (six.records.tobytes(), six.truncated) == (pack(records(5, first=1)), True)


@pytest.mark.parametrize("inline_bytes", [0, 2**20])
async def test_large_batch_is_decoded_as_a_small_one_is(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, inline_bytes: int
) -> None:
    monkeypatch.setattr(behaviours, "_INLINE_BYTES", inline_bytes)
    async with open_store(redis_server) as (store, _):
        users = [f"user-{place}" for place in range(60)]
        await store.append({user: records(20, first=place) for place, user in enumerate(users)})
        stored = await store.read(users)
    assert [one.records.tobytes() for one in stored] == [pack(records(20, first=place)) for place in range(60)]


@pytest.mark.parametrize("user", ["}", "{x}", "用户7", "a b", "🙂", "x" * 128, "nul\0", "line\n"])
async def test_any_user_id_has_a_key_of_its_own(redis_server: RedisServer, user: str) -> None:
    async with open_store(redis_server) as (store, _):
        await store.append({user: records(1), "other": records(2)})
        mine, other = await store.read([user, "other"])
    assert (len(mine.records), len(other.records)) == (1, 2)


async def test_appending_the_same_again_stores_nothing(redis_server: RedisServer) -> None:
    async with open_store(redis_server) as (store, _):
        await store.append({"a": records(30)})
        assert await store.append({"a": records(30)}) == {"a": AppendResult(stored=0, repeated=30)}
        assert await store.append({"a": records(4, first=28)}) == {"a": AppendResult(stored=2, repeated=2)}
    assert stored_bytes(redis_server, "a") == pack(records(32))


@pytest.mark.parametrize("count", [2, 17])
async def test_repeats_inside_one_request_are_stored_once(redis_server: RedisServer, count: int) -> None:
    async with open_store(redis_server) as (store, _):
        twice = np.concatenate([records(count), records(count)])
        assert await store.append({"a": twice}) == {"a": AppendResult(stored=count, repeated=count)}
    assert stored_bytes(redis_server, "a") == pack(records(count))


async def test_behaviours_that_differ_in_one_field_are_no_repeats(redis_server: RedisServer) -> None:
    async with open_store(redis_server) as (store, _):
        one = records(1)
        other = records_from_columns(one["item"], one["time_ms"], one["action"], one["play_ms"] + 1, np.array([4.5]))
        assert await store.append({"a": np.concatenate([one, other])}) == {"a": AppendResult(stored=2)}


async def test_request_in_any_order_is_stored_oldest_first(redis_server: RedisServer) -> None:
    async with open_store(redis_server) as (store, _):
        await store.append({"a": records(9)[::-1]})
    assert stored_bytes(redis_server, "a") == pack(records(9))


async def test_late_behaviour_is_stored_as_it_comes(redis_server: RedisServer) -> None:
    async with open_store(redis_server) as (store, _):
        await store.append({"a": records(2, first=5)})
        await store.append({"a": records(1)})
        [stored] = await store.read(["a"])
    assert stored.records.tobytes() == pack(records(2, first=5)) + pack(records(1))


async def test_history_is_trimmed_to_the_newest_when_a_quarter_over(redis_server: RedisServer) -> None:
    async with open_store(redis_server) as (store, _):
        await store.append({"a": records(50)})
        assert stored_bytes(redis_server, "a") == pack(records(50))
        await store.append({"a": records(1, first=50)})
        assert stored_bytes(redis_server, "a") == pack(records(MAX_LENGTH, first=11))
        await store.append({"a": records(200, first=100)})
        assert stored_bytes(redis_server, "a") == pack(records(MAX_LENGTH, first=260))


async def test_user_who_does_nothing_is_forgotten_after_the_time_to_live(redis_server: RedisServer) -> None:
    async with open_store(redis_server, ttl_seconds=1000) as (store, _):
        await store.append({"a": records(60), "b": records(1)})
        assert all(0 < int(redis_server.call("TTL", key(user))[1:]) <= 1000 for user in "ab")
        redis_server.call("EXPIRE", key("b"), "5")
        await store.append({"b": records(1)})
        assert int(redis_server.call("TTL", key("b"))[1:]) > 5


async def test_without_a_time_to_live_users_are_kept_for_ever(redis_server: RedisServer) -> None:
    async with open_store(redis_server) as (store, _):
        await store.append({"a": records(1)})
    assert redis_server.call("TTL", key("a")) == b":-1\r\n"


@pytest.mark.parametrize("cut", range(1, RECORD_BYTES))
async def test_torn_tail_is_healed_by_the_next_append(redis_server: RedisServer, cut: int) -> None:
    async with open_store(redis_server) as (store, _):
        redis_server.call("SET", key("a"), pack(records(5))[:-cut])
        assert await store.append({"a": records(2, first=10)}) == {"a": AppendResult(stored=2)}
        [stored] = await store.read(["a"])
    assert stored_bytes(redis_server, "a") == pack(records(4)) + pack(records(2, first=10))
    assert (len(stored.records), stored.corrupt) == (6, 0)


async def test_tear_inside_costs_one_record_before_and_after_it_is_healed(redis_server: RedisServer) -> None:
    async with open_store(redis_server) as (store, _):
        torn = pack(records(5))[:-7] + pack(records(3, first=5))
        redis_server.call("SET", key("a"), torn)
        [before] = await store.read(["a"])
        await store.append({"a": records(1, first=8)})
        [after] = await store.read(["a"])
    expected = pack(records(4)) + pack(records(3, first=5))
    assert (before.records.tobytes(), before.corrupt) == (expected, 1)
    assert (after.records.tobytes(), after.corrupt) == (expected + pack(records(1, first=8)), 0)


async def test_script_and_reader_agree_on_what_a_valid_record_is(redis_server: RedisServer) -> None:
    rng = np.random.default_rng(5)
    async with open_store(redis_server, read_length=MAX_LENGTH) as (store, _):
        for _ in range(150):
            content = bytearray(pack(records(6)))
            for _ in range(rng.integers(1, 4)):
                content[rng.integers(len(content))] ^= 1 << rng.integers(8)
            cut = rng.integers(1, RECORD_BYTES)
            redis_server.call("SET", key("a"), bytes(content[cut:]))
            [seen] = await store.read(["a"])
            await store.append({"a": records(1, first=99)})
            assert stored_bytes(redis_server, "a") == seen.records.tobytes() + pack(records(1, first=99))


async def test_huge_foreign_value_costs_a_bounded_read_and_is_replaced_by_the_next_append(
    redis_server: RedisServer,
) -> None:
    redis_server.call("SETRANGE", key("a"), str(20 * 2**20), b"x")
    async with open_store(redis_server, read_length=20) as (store, _):
        [stored] = await store.read(["a"])
        assert (len(stored.records), stored.corrupt, stored.status) == (0, 21, "ok")
        assert await store.append({"a": records(3)}) == {"a": AppendResult(stored=3)}
        [stored] = await store.read(["a"])
    assert stored.records.tobytes() == pack(records(3))
    assert len(stored_bytes(redis_server, "a")) <= (MAX_LENGTH * 5 // 4 + 1) * RECORD_BYTES


@pytest.mark.parametrize(
    "command",
    [("LPUSH",), ("SADD",), ("HSET", "field"), ("ZADD", "1"), ("XADD", "*", "field")],
    ids=lambda command: command[0],
)
async def test_key_of_another_type_is_that_users_trouble_alone(
    redis_server: RedisServer, command: tuple[str, ...]
) -> None:
    name, *rest = command
    redis_server.call(name, key("odd"), *rest, "value")
    async with open_store(redis_server) as (store, observer):
        results = await store.append({"odd": records(1), "good": records(2)})
        odd, good = await store.read(["odd", "good"])
    assert results == {"odd": AppendResult(error="wrong_type"), "good": AppendResult(stored=2)}
    assert (odd.status, len(odd.records)) == ("wrong_type", 0)
    assert (good.status, len(good.records)) == ("ok", 2)
    assert observer.errors == {"wrong_type": 2}
    assert observer.up


async def test_batch_of_wrong_types_alone_does_not_open_the_breaker(redis_server: RedisServer) -> None:
    redis_server.call("LPUSH", key("odd"), "value")
    async with open_store(redis_server) as (store, observer):
        for _ in range(5):
            assert [one.status for one in await store.read(["odd"])] == ["wrong_type"]
    assert observer.up
    assert not observer.breaker_open
