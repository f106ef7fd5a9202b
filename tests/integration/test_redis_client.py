"""Clients against real servers of each kind: a socket, a port, a password, Sentinel, and Cluster."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import exceptions as redis_errors
from redis.asyncio import Connection, SSLConnection

from contract.behaviours.records import Records, item_keys, pack, records_from_columns
from contract.redis_url.address import RedisUrlError
from service.redis.client import Client, Command, make_client
from service.redis.dialling import FAILED_IN_A_ROW
from service.store.behaviours import AppendResult, RedisBehaviourStore
from tests.support.redis_server import RedisServer, executable, free_port

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

SECONDS = 10.0
FROZEN_SECONDS = 1.0  # where a node does not answer


class Observer:
    def __init__(self) -> None:
        self.errors: Counter[str] = Counter()

    def store_error(self, kind: str) -> None:
        self.errors[kind] += 1


def open_store(url: str, observer: Observer | None = None, seconds: float = SECONDS) -> RedisBehaviourStore:
    return RedisBehaviourStore(
        make_client(url, timeout_seconds=seconds),
        make_client(url, timeout_seconds=seconds),
        read_length=40,
        max_length=40,
        ttl_seconds=100,
        observer=observer or Observer(),
    )


def records(count: int) -> Records:
    places = np.arange(count)
    zeros = np.zeros(count)
    return records_from_columns(
        item_keys(str(place) for place in places), places + 1, np.full(count, 2, np.uint8), places, zeros
    )


async def check(url: str, users: int = 3) -> None:
    """Append to and read from a store at this address."""
    store = open_store(url)
    try:
        assert await store.ping()
        appended = await store.append({f"user-{place}": records(place + 1) for place in range(users)})
        assert appended == {f"user-{place}": AppendResult(stored=place + 1) for place in range(users)}
        stored = await store.read([f"user-{place}" for place in range(users)])
        assert [one.records.tobytes() for one in stored] == [pack(records(place + 1)) for place in range(users)]
    finally:
        await store.close()


async def test_client_speaks_over_a_socket_and_names_itself(redis_server: RedisServer) -> None:
    await check(redis_server.url)
    client = make_client(redis_server.url, timeout_seconds=SECONDS)
    try:
        assert await client.run([Command(b"", ("CLIENT", "GETNAME"))]) == [b"ranker"]
    finally:
        await client.aclose()


async def test_client_speaks_over_a_port_in_another_database(port_redis: RedisServer) -> None:
    await check(f"redis://127.0.0.1:{port_redis.port}/3")
    assert port_redis.call("DBSIZE") == b":0\r\n"


async def test_password_in_the_url_is_used_and_a_wrong_one_degrades(port_redis: RedisServer) -> None:
    port_redis.call("CONFIG", "SET", "requirepass", "s3cret/%")
    await check(f"redis://:s3cret%2F%25@127.0.0.1:{port_redis.port}")
    for url in (f"redis://:wrong@127.0.0.1:{port_redis.port}", f"redis://127.0.0.1:{port_redis.port}"):
        observer = Observer()
        store = open_store(url, observer)
        assert [one.status for one in await store.read(["a"])] == ["unavailable"]
        assert observer.errors == {"auth": 1}
        await store.close()


def connection_options(client: Client) -> list[dict[str, Any]]:
    return [node._pool.connection_kwargs for node in client.topology.nodes()]  # type: ignore[attr-defined]


def connections_to(server: RedisServer) -> int:
    return server.call("CLIENT", "LIST").count(b"name=ranker")


async def test_options_of_the_connections_are_ours() -> None:
    client = make_client("redis://127.0.0.1:1?socket_keepalive=no", timeout_seconds=0.02)
    [options] = connection_options(client)
    assert options["socket_timeout"] == pytest.approx(0.25)
    assert options["socket_connect_timeout"] == pytest.approx(0.016)
    assert options["decode_responses"] is False
    assert options["socket_keepalive"] is False
    assert options["retry"].get_retries() == 0
    await client.aclose()


async def test_more_callers_than_connections_wait_their_turn(redis_server: RedisServer) -> None:
    client = make_client(redis_server.url, timeout_seconds=5, max_connections=2)
    try:
        ping = [Command(b"", ("PING",))]
        assert await asyncio.gather(*[client.run(ping) for _ in range(100)]) == [[b"PONG"]] * 100
        assert connections_to(redis_server) == 2
    finally:
        await client.aclose()


async def test_client_finds_the_primary_through_sentinel(port_redis: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {port_redis.port} 1\n")
    command = [executable(), str(configuration), "--sentinel"]
    with subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as sentinel:
        try:
            url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/main"
            while not await _answers(url):  # noqa: ASYNC110 - the condition is another process's
                await asyncio.sleep(0.02)
            await check(url)
        finally:
            sentinel.kill()


async def _answers(url: str) -> bool:
    store = open_store(url)
    try:
        return await store.ping()
    finally:
        await store.close()


@pytest.mark.slow
async def test_client_speaks_to_a_cluster_where_users_live_on_several_nodes() -> None:
    ports = [free_port() for _ in range(3)]
    servers = [RedisServer(port=port, arguments=("--cluster-enabled", "yes")).start() for port in ports]
    try:
        bounds = [0, 5461, 10922, 16384]
        for server, first, stop in zip(servers, bounds, bounds[1:], strict=False):
            server.call("CLUSTER", "ADDSLOTS", *map(str, range(first, stop)))
        for port in ports[1:]:
            servers[0].call("CLUSTER", "MEET", "127.0.0.1", str(port))
        while not all(_is_whole(server) for server in servers):  # noqa: ASYNC110 - the condition is other processes'
            await asyncio.sleep(0.02)
        await check(f"redis+cluster://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}", users=30)
        assert all(server.call("DBSIZE") != b":0\r\n" for server in servers)
        servers[0].call("SCRIPT", "FLUSH")
        store = open_store(f"redis+cluster://127.0.0.1:{ports[1]}", seconds=FROZEN_SECONDS)
        users = [f"user-{place}" for place in range(30)]
        assert all(one.repeated == 1 for one in (await store.append({user: records(1) for user in users})).values())
        servers[2].freeze()
        assert await statuses_of(store, users) == {"ok", "unavailable"}
        servers[2].kill()
        assert await statuses_of(store, users) == {"ok", "unavailable"}
        # Another node takes the dead one's slots, as a replica would: the client finds out by itself.
        for server in servers[:2]:
            server.call("CLUSTER", "DELSLOTS", *map(str, range(bounds[2], bounds[3])))
        servers[0].call("CLUSTER", "ADDSLOTS", *map(str, range(bounds[2], bounds[3])))
        while await statuses_of(store, users) != {"ok"}:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
        await store.close()
    finally:
        for server in servers:
            server.close()


async def statuses_of(store: RedisBehaviourStore, users: list[str]) -> set[str]:
    return {one.status for one in await store.read(users)}


def _is_whole(server: RedisServer) -> bool:
    information = server.call("CLUSTER", "INFO")
    return b"cluster_state:ok" in information and b"cluster_known_nodes:3" in information


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "localhost:6379",
        "",
        "redis+sentinel://localhost:26379",
        "redis+cluster://",
        "redis://h:port",
    ],
)
def test_unusable_url_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(RedisUrlError) as caught:
        make_client(url, timeout_seconds=1)
    assert not url or url not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["rediss://u:p@h:6380/1", "rediss+sentinel://h/main/2?sentinel_ssl=true", "rediss+cluster://u:p@h1,h2:7000"]
)
async def test_encrypted_urls_make_connections_with_tls(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[type] = []
    monkeypatch.setattr(SSLConnection, "_connect", lambda self: made.append(type(self)) or refuse())
    monkeypatch.setattr(Connection, "_connect", lambda self: made.append(type(self)) or refuse())
    client = make_client(url, timeout_seconds=1)
    [reply] = await client.run([Command(b"key", ("PING",))])
    await client.aclose()
    assert isinstance(reply, Exception)
    assert set(made) == {SSLConnection}


async def refuse() -> None:
    raise ConnectionRefusedError


async def test_a_server_that_closes_every_connection_is_not_tried_again_by_each_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.redis.dialling._PAUSE_SECONDS", 60.0)
    tried = 0

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tried
        tried += 1
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = make_client(f"redis://127.0.0.1:{port}", timeout_seconds=SECONDS)
        for _ in range(20):
            [error] = await client.run([Command(b"", ("PING",))])
            assert isinstance(error, redis_errors.ConnectionError)
        assert tried == FAILED_IN_A_ROW
        await client.aclose()
