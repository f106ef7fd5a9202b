"""Stored behaviours against a real Redis: what is read, what is appended, and what a broken Redis costs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from contract.behaviours import RECORD_BYTES, Records, item_keys, pack, records_from_columns
from service.behaviours import AppendResult, RedisBehaviourStore, StoreUnavailable
from service.breaker import Breaker
from service.redis_client import make_client
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

READ_SECONDS = 0.25  # generous, since other tests share the cores; what is asserted is never a duration
WRITE_SECONDS = 2.0
MAX_LENGTH = 40


class Observer:
    """Counts what the store reports."""

    def __init__(self) -> None:
        self.errors: Counter[str] = Counter()
        self.up: bool | None = None
        self.breaker_open: bool | None = None

    def store_error(self, kind: str) -> None:
        self.errors[kind] += 1

    def store_state(self, *, up: bool, breaker_open: bool) -> None:
        self.up, self.breaker_open = up, breaker_open


@asynccontextmanager
async def open_store(
    server: RedisServer, *, read_length: int = 20, ttl_seconds: int = 0, cool_down_seconds: float = 0.01
) -> AsyncIterator[tuple[RedisBehaviourStore, Observer]]:
    observer = Observer()
    store = RedisBehaviourStore(
        make_client(server.url, timeout_seconds=READ_SECONDS),
        make_client(server.url, timeout_seconds=WRITE_SECONDS),
        read_length=read_length,
        max_length=MAX_LENGTH,
        ttl_seconds=ttl_seconds,
        read_timeout_seconds=READ_SECONDS,
        write_timeout_seconds=WRITE_SECONDS,
        observer=observer,
        breaker=Breaker(failures=2, cool_down_seconds=cool_down_seconds, max_cool_down_seconds=0.05),
    )
    try:
        yield store, observer
    finally:
        await store.close()


def records(count: int, *, first: int = 0) -> Records:
    places = np.arange(first, first + count)
    return records_from_columns(
        item_keys(f"item-{place}" for place in places),
        1_765_000_000_000 + places,
        np.full(count, 2, dtype=np.uint8),
        places % 1000,
        np.full(count, 4.5),
    )


def key(user: str) -> str:
    return f"bhv:{{{user}}}"


def stored_bytes(server: RedisServer, user: str) -> bytes:
    reply = server.call("GET", key(user))
    return b"" if reply.startswith(b"$-1") else reply.partition(b"\r\n")[2].removesuffix(b"\r\n")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110 - the condition is another process's
        await asyncio.sleep(0.005)


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


async def test_large_batch_is_decoded_as_a_small_one_is(redis_server: RedisServer) -> None:
    async with open_store(redis_server) as (store, _):
        users = [f"user-{place}" for place in range(200)]
        await store.append({user: records(20, first=place) for place, user in enumerate(users)})
        stored = await store.read(users)
    assert [one.records.tobytes() for one in stored] == [pack(records(20, first=place)) for place in range(200)]


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


async def test_frozen_redis_opens_the_breaker_and_is_then_not_asked_until_a_probe_comes_back(
    own_redis: RedisServer,
) -> None:
    async with open_store(own_redis, cool_down_seconds=0.05) as (store, observer):
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
        assert await store.append({"a": records(1)}) == {"a": AppendResult(stored=1)}


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


def _corruptions() -> list[tuple[str, bytes]]:
    """Return thirty kinds of damage to a history of ten records, each seeded."""
    rng = np.random.default_rng(11)
    good = pack(records(10))
    half = len(good) // 2
    noise = rng.bytes(len(good))
    flipped = bytes(octet ^ 0x10 if place % RECORD_BYTES == 3 else octet for place, octet in enumerate(good))
    kinds = {
        "one byte": b"\x00",
        "23 bytes": good[:23],
        "25 bytes": good[:25],
        "zeros": bytes(240),
        "ones": b"\xff" * 240,
        "noise": noise,
        "noise, torn": noise[:-5],
        "long noise": rng.bytes(5000),
        "text": b"hello, world " * 9,
        "bad UTF-8": b"\xc3\x28\xa0\xa1" * 30,
        "NULs inside": good[:60] + bytes(60) + good[60:],
        "JSON": b'[{"item":"1","ts":1}]' * 4,
        "nested JSON": b"[" * 500 + b"]" * 500,
        "number": b"12345678901234567890",
        "NaN": b"NaN" * 16,
        "pickle": b"\x80\x04\x95" + noise[:50],
        "gzip": b"\x1f\x8b\x08\x00" + noise[:80],
        "RESP": b"*3\r\n$3\r\nSET\r\n" * 4,
        "torn head": good[7:],
        "torn tail": good[:-7],
        "torn twice": good[7:-7],
        "torn inside": good[: half - 5] + good[half:],
        "byte put in": good[:half] + b"!" + good[half:],
        "byte lost": good[:half] + good[half + 1 :],
        "halves swapped, torn": good[half + 3 :] + good[: half + 3],
        "bit in every record": flipped,
        "reversed": good[::-1],
        "twice": good + good,
        "upper half noise": good[:half] + noise[half:],
        "lower half noise": noise[:half] + good[half:],
        "big-endian": np.frombuffer(good, "<u8").byteswap().tobytes(),
        "action 0": b"".join(_with(record, 20, 0) for record in _split(good)),
        "action 255": b"".join(_with(record, 20, 255) for record in _split(good)),
        "year 584 million": b"".join(_with(record, 15, 255) for record in _split(good)),
    }
    return list(kinds.items())


def _split(content: bytes) -> list[bytes]:
    return [content[start : start + RECORD_BYTES] for start in range(0, len(content), RECORD_BYTES)]


def _with(record: bytes, place: int, octet: int) -> bytes:
    return record[:place] + bytes([octet]) + record[place + 1 :]


async def test_damaged_values_of_thirty_kinds_lose_bad_records_and_nothing_else(redis_server: RedisServer) -> None:
    kinds = _corruptions()
    assert len(kinds) >= 30
    good = {bytes(record) for record in _split(pack(records(10)))}
    async with open_store(redis_server, read_length=300) as (store, observer):
        for name, content in kinds:
            redis_server.call("SET", key(name), content)
        stored = await store.read([*(name for name, _ in kinds), "unharmed"])
        for (name, content), one in zip(kinds, stored, strict=False):
            read = _split(one.records.tobytes())
            assert set(read) <= good, name
            assert one.corrupt == -(-len(content) // RECORD_BYTES) - len(read), name
        by_name = {name: len(one.records) for (name, _), one in zip(kinds, stored, strict=False)}
        # And each of them takes appends again.
        results = await store.append({name: records(1, first=500) for name, _ in kinds})
        assert set(results.values()) == {AppendResult(stored=1)}
        after = await store.read([name for name, _ in kinds])
        assert all(one.records.tobytes().endswith(pack(records(1, first=500))) for one in after)
    kept = {
        "torn head": 9,
        "torn tail": 9,
        "torn twice": 8,
        "torn inside": 9,
        "byte put in": 10,
        "byte lost": 9,
        "twice": 20,
    }
    assert {name: by_name[name] for name in kept} == kept
    assert by_name["bit in every record"] == by_name["noise"] == by_name["action 0"] == 0
    assert not observer.errors
