"""The rights that docs/operations.md lists are enough and none too many; and two prefixes share one server."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import NoPermissionError

from contract.events.streams import ACTIVITY_STREAM, EXPOSURE_STREAM, RANKING_STREAM
from service.experiments.state_stores import STATE_KEY, RedisStateStore, StateUnavailable
from service.redis.client import Command, make_client
from service.store.behaviours import RedisBehaviourStore, StoreUnavailable
from service.store.streams import EventStream
from tests.support.behaviour_store import Observer, open_rig, records
from tests.support.redis_server import RedisServer, executable, free_port
from tests.support.redis_topology import until_true, watched

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

OPERATIONS = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
SECONDS = 5.0
PREFIX = "staging:"


def rights() -> dict[str, list[str]]:
    """The rules of the access list, by the comment above them."""
    text = OPERATIONS.split("### Access list")[1].split("```")[1].partition("\n")[2]
    first, *sections = re.split(r"^# (.*)\n", text, flags=re.M)
    found = {"login": first.split()[2:]}
    for subject, lines in zip(sections[::2], sections[1::2], strict=True):
        found[subject] = [word for line in lines.splitlines() for word in line.split()[2:]]
    return found


def allow(server: RedisServer, *rules: str) -> None:
    prefixed = [rule.replace("~", f"~{PREFIX}") for rule in rules]
    assert server.call("ACL", "SETUSER", "ranker", "reset", *prefixed) == b"+OK\r\n"


LOGIN = [*rights()["login"][:1], ">pw", *rights()["login"][2:]]
BEHAVIOURS = [*LOGIN, *rights()["behaviours"]]
STREAMS = [*LOGIN, *rights()["exposures, feedback and rankings"]]


@asynccontextmanager
async def open_store(url: str, prefix: str = PREFIX) -> AsyncIterator[RedisBehaviourStore]:
    store = RedisBehaviourStore(
        make_client(url, timeout_seconds=SECONDS),
        make_client(url, timeout_seconds=SECONDS),
        read_length=40,
        max_length=8,
        ttl_seconds=100,
        observer=Observer(),
        prefix=prefix,
    )
    try:
        yield store
    finally:
        await store.close()


async def keeps_behaviours(url: str) -> bool:
    """Do all that the store ever does: read, append, trim, probe."""
    async with open_store(url) as store:
        try:
            for first in (0, 4):  # the second one trims the history
                await store.append({"u1": records(8, first=first)})
        except StoreUnavailable:
            return False
        [stored] = await store.read(["u1"])
        return await store.ping() and stored.records.tobytes() == records(8, first=4).tobytes()


async def keeps_events(url: str) -> bool:
    """Do all that the flushers ever do: write and trim."""
    client = make_client(url, timeout_seconds=SECONDS)
    trims, drops = list[int](), list[tuple[str, ...]]()
    for name in (EXPOSURE_STREAM, ACTIVITY_STREAM, RANKING_STREAM):
        stream = EventStream(
            client, PREFIX + name, on_drop=drops.append, on_trim=trims.append, max_length=100, interval_seconds=0.001
        )
        stream.start()
        for _ in range(500):
            stream.offer(b"event")
        await stream.close(0.5)
    await client.aclose()
    return len(trims) >= 3 and not drops


def address(server: RedisServer, options: str = "") -> str:
    return f"unix://ranker:pw@{server.socket}{options}"


async def test_the_listed_rights_are_enough_for_behaviours_and_give_nothing_else(own_redis: RedisServer) -> None:
    allow(own_redis, *BEHAVIOURS)
    assert await keeps_behaviours(address(own_redis))
    client = make_client(address(own_redis), timeout_seconds=SECONDS)
    others: list[tuple[str, ...]] = [
        ("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("CLIENT", "LIST"),
        ("GETRANGE", "bhv:{u1}", "0", "-1"), ("GETRANGE", "production:bhv:{u1}", "0", "-1"),
        ("XADD", f"{PREFIX}ab:x", "*", "a", "b"),
    ]  # fmt: skip
    replies = await client.run([Command(b"", words) for words in others])
    await client.aclose()
    assert [type(reply) for reply in replies] == [NoPermissionError] * len(others)


@pytest.mark.parametrize("right", [rule for rule in rights()["behaviours"] if rule[0] == "+"])
async def test_each_right_for_behaviours_is_needed(own_redis: RedisServer, right: str) -> None:
    allow(own_redis, *[rule for rule in BEHAVIOURS if rule != right])
    if right == "+append":  # both writes of the test above trim
        async with open_store(address(own_redis)) as store:
            with pytest.raises(StoreUnavailable):
                await store.append({"u2": records(1)})
    else:
        assert not await keeps_behaviours(address(own_redis))


async def test_the_listed_rights_are_enough_for_streams(own_redis: RedisServer) -> None:
    allow(own_redis, *STREAMS)
    assert await keeps_events(address(own_redis))
    assert not await keeps_behaviours(address(own_redis))


@pytest.mark.parametrize("right", [rule for rule in rights()["exposures, feedback and rankings"] if rule[0] == "+"])
async def test_each_right_for_streams_is_needed(own_redis: RedisServer, right: str) -> None:
    allow(own_redis, *[rule for rule in STREAMS if rule != right])
    assert not await keeps_events(address(own_redis))


async def test_the_list_of_users_needs_one_more_right(own_redis: RedisServer) -> None:
    allow(own_redis, *BEHAVIOURS)
    async with open_store(address(own_redis)) as store:
        await store.append({"u1": records(1)})
        with pytest.raises(StoreUnavailable):
            await store.some_users("", 10)
        allow(own_redis, *BEHAVIOURS, *rights()["the page's list of users"])
        assert await store.some_users("", 10) == ["u1"]


async def test_a_stream_keeps_its_length_without_the_right_to_trim(own_redis: RedisServer) -> None:
    allow(own_redis, *[rule for rule in STREAMS if rule != "+xtrim"])
    assert not await keeps_events(address(own_redis))
    assert 100 <= int(own_redis.call("XLEN", PREFIX + EXPOSURE_STREAM)[1:]) <= 250


async def keeps_state(url: str) -> bool:
    client = make_client(url, timeout_seconds=SECONDS)
    try:
        store = RedisStateStore(client, PREFIX + STATE_KEY, SECONDS)
        before = (await store.read()).content
        return await store.swap(before, b"state") and (await store.read()).content == b"state"
    except StateUnavailable:
        return False
    finally:
        await client.aclose()


STATE = [*LOGIN, *rights()["the state of the experiments"]]


async def test_the_listed_rights_are_enough_for_the_state_of_the_experiments(own_redis: RedisServer) -> None:
    allow(own_redis, *STATE)
    assert await keeps_state(address(own_redis))
    assert not await keeps_behaviours(address(own_redis))


@pytest.mark.parametrize("right", [rule for rule in rights()["the state of the experiments"] if rule[0] == "+"])
async def test_each_right_for_the_state_is_needed(own_redis: RedisServer, right: str) -> None:
    allow(own_redis, *[rule for rule in STATE if rule != right])
    assert not await keeps_state(address(own_redis))


async def test_another_database_needs_one_more_right(own_redis: RedisServer) -> None:
    allow(own_redis, *BEHAVIOURS)
    assert not await keeps_behaviours(address(own_redis, "?db=2"))
    allow(own_redis, *BEHAVIOURS, *rights()["a database other than 0"])
    assert await keeps_behaviours(address(own_redis, "?db=2"))


async def test_a_connection_has_our_name_where_that_is_allowed(own_redis: RedisServer) -> None:
    allow(own_redis, *BEHAVIOURS, "+client|setname", "+client|getname")
    client = make_client(address(own_redis), timeout_seconds=SECONDS)
    assert await client.run([Command(b"", ("CLIENT", "GETNAME"))]) == [b"ranker"]
    await client.aclose()


@pytest.fixture
def one_node_cluster() -> Iterator[RedisServer]:
    server = RedisServer(port=free_port(), arguments=("--cluster-enabled", "yes")).start()
    server.call("CLUSTER", "ADDSLOTS", *map(str, range(16_384)))
    yield server
    server.close()


@pytest.mark.slow
async def test_a_cluster_needs_the_listed_rights(one_node_cluster: RedisServer) -> None:
    while b"cluster_state:ok" not in one_node_cluster.call("CLUSTER", "INFO"):  # noqa: ASYNC110 - another process's
        await asyncio.sleep(0.01)
    url = f"redis+cluster://ranker:pw@127.0.0.1:{one_node_cluster.port}"
    allow(one_node_cluster, *BEHAVIOURS, *rights()["exposures, feedback and rankings"], *rights()["a Cluster"])
    assert await keeps_behaviours(url)
    assert await keeps_events(url)
    for right in rights()["a Cluster"]:
        others = [rule for rule in rights()["a Cluster"] if rule != right]
        allow(one_node_cluster, *BEHAVIOURS, *rights()["exposures, feedback and rankings"], *others)
        assert not await keeps_behaviours(url), right
    # The braces decide the slot, so a prefix moves no key.
    slots = {one_node_cluster.call("CLUSTER", "KEYSLOT", key) for key in ("bhv:{u1}", PREFIX + "bhv:{u1}", "u1")}
    assert len(slots) == 1


async def test_sentinel_has_a_login_of_its_own(tmp_path: Path) -> None:
    server, port = RedisServer(port=free_port()).start(), free_port()
    [right] = re.findall(r"Sentinel's own user needs `(.*)`", OPERATIONS)
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\nuser default off\nuser asker on >a%sk resetchannels -@all {right}\n"
        f"sentinel monitor main 127.0.0.1 {server.port} 1\n"
    )
    allow(server, *BEHAVIOURS)
    command = [executable(), str(configuration), "--sentinel"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sentinel:  # noqa: ASYNC220
        try:
            url = f"redis+sentinel://ranker:pw@127.0.0.1:{port}/main?sentinel_username=asker&sentinel_password=a%25sk"
            async with asyncio.timeout(60):
                while not await keeps_behaviours(url):  # noqa: ASYNC110 - until Sentinel is up
                    await asyncio.sleep(0.05)
            assert not await keeps_behaviours(url.partition("?")[0])
        finally:
            sentinel.kill()
            server.close()


async def test_confirmed_writes_need_the_listed_rights() -> None:
    with watched(sentinels=1) as parts:
        await until_true(parts.is_ready)
        url = parts.url.replace("://", "://ranker:pw@")
        confirming = rights()["writes that a replica confirms (Sentinel, Cluster)"]
        for left_out in (None, *confirming):
            for server in parts.servers:
                allow(server, *BEHAVIOURS, *[rule for rule in confirming if rule != left_out])
            async with open_rig(url, prefix=PREFIX) as rig:
                assert await rig.store.append({"u1": records(1)})
                assert (rig.observer.unconfirmed > 0) == (left_out is not None)


async def test_two_prefixes_share_one_server(redis_server: RedisServer) -> None:
    async with open_store(redis_server.url, "one:") as first, open_store(redis_server.url, "two:") as second:
        await first.append({"u1": records(3)})
        await second.append({"u1": records(1, first=5)})
        [of_first], [of_second] = await first.read(["u1"]), await second.read(["u1"])
    assert (len(of_first.records), len(of_second.records)) == (3, 1)
    assert redis_server.call("EXISTS", "one:bhv:{u1}", "two:bhv:{u1}", "bhv:{u1}") == b":2\r\n"
