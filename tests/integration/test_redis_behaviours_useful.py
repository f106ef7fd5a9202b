"""With a real Redis: other actions and newer items never push a user's usable past out of the key or the read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest

from contract.behaviours.records import Records, pack, unpack
from service.bundles.bundle import Bundle, load_bundle
from service.store.append_script import MAX_LATE, SLACK
from service.store.behaviours import StoreUnavailable
from service.store.retention import usable_count
from service.store.trimming import longest
from tests.support.behaviour_store import MAX_LENGTH, key, open_store, records, stored_bytes
from tests.support.builders import TinyModel, behaviours
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.anyio]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(TinyModel().write(tmp_path_factory.mktemp("bundles")), max_bytes=10_000_000)


def clicks(count: int, *, start_ms: int = 1_700_000_000_000) -> Records:
    return behaviours([f"i{1 + place % 20}" for place in range(count)], start_ms=start_ms)


def impressions(count: int, *, start_ms: int) -> Records:
    return behaviours(["i1"] * count, start_ms=start_ms, action="impression")


def newer(count: int, *, start_ms: int) -> Records:
    return behaviours([f"new{place}" for place in range(count)], start_ms=start_ms)


def kept(server: RedisServer, user: str) -> Records:
    return unpack([stored_bytes(server, user)]).records


@pytest.mark.parametrize("others", [impressions, newer], ids=["impressions", "newer items"])
@pytest.mark.parametrize("batch", [1, 7, 200])
async def test_usable_past_stays_in_the_key_however_much_else_comes(
    redis_server: RedisServer, bundle: Bundle, others: object, batch: int
) -> None:
    async with open_store(redis_server, served=lambda: [bundle]) as (store, observer):
        await store.append({"a": clicks(10)})
        for start in range(0, 400, batch):
            await store.append({"a": others(batch, start_ms=1_700_000_100_000 + start)})  # type: ignore[operator]
        [whole] = await store.read_whole(["a"])
    assert usable_count(bundle, whole.records) == 10
    assert len(whole.records) <= MAX_LENGTH * 5 // 4
    assert observer.trimmed["usable"] == 0
    assert observer.trimmed["other"] > 300


async def test_whole_read_gives_what_the_newest_behaviours_hide(redis_server: RedisServer, bundle: Bundle) -> None:
    async with open_store(redis_server, read_length=5, served=lambda: [bundle]) as (store, _):
        await store.append({"a": clicks(9)})
        await store.append({"a": impressions(9, start_ms=1_800_000_000_000)})
        [newest], [whole] = await store.read(["a"]), await store.read_whole(["a"])
    assert (usable_count(bundle, newest.records), newest.truncated) == (0, True)
    assert (usable_count(bundle, whole.records), whole.truncated) == (9, False)


async def test_many_late_behaviours_do_not_hide_the_newest(redis_server: RedisServer) -> None:
    """A history that is loaded after the user has begun to act is stored after the newer behaviours."""
    async with open_store(redis_server, read_length=5) as (store, _):
        await store.append({"a": records(3, first=1_000)})
        await store.append({"a": records(MAX_LATE + 1)})
        [stored] = await store.read(["a"])
    assert stored.records[-3:].tobytes() == pack(records(3, first=1_000))
    assert _is_sorted(kept(redis_server, "a"))


async def test_trimming_keeps_the_time_to_live_and_what_came_in_the_meantime(redis_server: RedisServer) -> None:
    async with open_store(redis_server, ttl_seconds=1_000) as (store, _):
        results = await asyncio.gather(
            *[store.append({"a": records(10, first=10 * place)}) for place in range(40)],
            *[store.append({f"b{place}": records(60)}) for place in range(40)],
        )
        assert all(result.error is None for each in results for result in each.values())
        [whole] = await store.read_whole(["a"])
    newest = records(400)[-MAX_LENGTH // 2 :]
    assert {record.tobytes() for record in newest} <= {record.tobytes() for record in whole.records}
    assert 0 < int(redis_server.call("TTL", key("a"))[1:]) <= 1_000


async def test_damaged_history_is_trimmed_to_its_valid_records(redis_server: RedisServer, bundle: Bundle) -> None:
    redis_server.call("SET", key("a"), pack(clicks(60))[:-5] + b"noise" * 9)
    async with open_store(redis_server, served=lambda: [bundle]) as (store, _):
        await store.append({"a": clicks(1, start_ms=1_800_000_000_000)})
        [whole] = await store.read_whole(["a"])
    assert (len(whole.records), whole.corrupt) == (MAX_LENGTH, 0)


async def test_value_that_is_never_trimmed_stays_bounded(redis_server: RedisServer) -> None:
    """Even where every trim fails, as with a service that dies between the append and the trim."""
    async with open_store(redis_server) as (store, _):
        store._trimmer.trim = _never  # type: ignore[method-assign]
        for first in range(0, 5_000, 500):
            await store.append({"a": records(500, first=first)})
        [whole] = await store.read_whole(["a"])
    assert len(whole.records) <= longest(MAX_LENGTH) == 2 * MAX_LENGTH + SLACK
    assert whole.records[-1].tobytes() == pack(records(1, first=4_999))


@pytest.mark.parametrize("prefix", ["", "ranker-staging:"])
async def test_users_are_listed_by_the_beginning_of_their_ids(redis_server: RedisServer, prefix: str) -> None:
    names = ["a*", "ab", "a[b]", "a\\", "b", "用户7", "}"]
    async with open_store(redis_server, prefix=prefix) as (store, _):
        await store.append({name: records(1) for name in names})
        redis_server.call("SET", "another-program's", "1")
        redis_server.call("SET", "other:bhv:{x}", "1")
        assert await store.some_users("", 100) == sorted(names)
        assert await store.some_users("a", 100) == sorted(name for name in names if name[0] == "a")
        assert [await store.some_users(start, 9) for start in ("a*", "a[", "a\\", "?", "用")] == [
            ["a*"], ["a[b]"], ["a\\"], [], ["用户7"]
        ]  # fmt: skip
        assert len(await store.some_users("", 3)) == 3


async def test_listing_users_of_a_store_that_is_away_says_so(own_redis: RedisServer) -> None:
    async with open_store(own_redis) as (store, _):
        own_redis.kill()
        with pytest.raises(StoreUnavailable):
            await store.some_users("", 10)


async def _never(_keys: Sequence[bytes]) -> None:
    """Trim nothing."""


def _is_sorted(found: Records) -> bool:
    return all(earlier <= later for earlier, later in pairwise(found["time_ms"].tolist()))
