"""The one place that makes Redis clients, and why each option is not redis-py's default.

redis-py is made for jobs that may wait: 5 s timeouts, 10 retries with back-off, and a pool that raises when it is
empty. On a ranking path of 20 ms that means one frozen Redis holds a request for 59 s (11 tries of 5 s), a killed one
for 3.6 s, and 98 of 100 concurrent calls on a small pool fail although waiting 20 ms would have served them all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

from redis.asyncio import BlockingConnectionPool, Connection, Redis, RedisCluster, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from service.redis_url import RedisAddress, RedisUrlError, parse_redis_url
from service.supervision import UNOBSERVED, Supervised, TaskObserver, supervise_job

Options = dict[str, Any]  # Any: keyword arguments of redis-py, which types them one by one

CLIENT_NAME: Final = "ranker"
_REPLY_SHARE: Final = 0.8  # of a budget, for one reply: a node that is silent leaves time to use what others answered
_SILENCE_SECONDS: Final = 0.25  # after which a connection to a single server is given up
_REFRESH_SECONDS: Final = 1.0  # between two looks at the map of a cluster with a node that does not answer


class Command(NamedTuple):
    """One command on one key."""

    key: bytes
    words: tuple[bytes | str | int, ...]


class Client(Protocol):
    """What the stores ask of Redis, whichever kind of it there is."""

    async def run(self, commands: Sequence[Command]) -> list[Any]:  # Any: a reply, of a type that the command knows
        """Send commands in one round trip (per node); an error of one command stands in its place."""

    async def aclose(self) -> None:
        """Let go of all connections."""


def make_client(
    address: RedisAddress | str,
    *,
    timeout_seconds: float,
    max_connections: int = 16,
    client_name: str = CLIENT_NAME,
    observer: TaskObserver = UNOBSERVED,
) -> Client:
    """Make a client; nothing connects before its first command.

    Args:
        address: a parsed URL, or one for `parse_redis_url`.
        timeout_seconds: the caller's budget for a call; connecting, and each reply of a cluster's node or a Sentinel's
            primary, get four fifths of it.
        max_connections: of the pool; the next caller waits for half the budget.
        client_name: shown by CLIENT LIST, where the user's ACL allows CLIENT SETNAME.
        observer: counts restarts of a cluster's background task.

    Raises:
        RedisUrlError: the URL is malformed, or its TLS files cannot be used.
    """
    if isinstance(address, str):
        address = parse_redis_url(address)
    if address.tls_options:
        _check_tls(address.tls_options)
    client = _MAKERS[address.kind](address, _options(timeout_seconds, client_name), max_connections)
    if isinstance(client, _Cluster):
        client.observer = observer
    return client


def _check_tls(options: Options) -> None:
    """Load the certificates now, so that a wrong path is told at start and not at each connection."""
    try:
        SSLConnection(**options).ssl_context.get()
    except (OSError, ValueError) as error:
        raise RedisUrlError(f"the TLS files or ciphers cannot be used ({type(error).__name__})") from error


def _options(timeout_seconds: float, client_name: str) -> Options:
    return {
        # Both by the budget: a frozen server accepts connections and never answers, a lost one never accepts.
        "socket_timeout": timeout_seconds * _REPLY_SHARE,
        "socket_connect_timeout": timeout_seconds * _REPLY_SHARE,
        # No second try: the answer is degraded instead, and the breaker keeps a dead Redis from costing every request.
        "retry": Retry(NoBackoff(), 0),
        # The health check is a PING before a command, so it doubles the wait for a Redis that is slow already.
        "health_check_interval": 0,
        # Bytes: with decoding on, one bad byte raises UnicodeDecodeError, which is no RedisError.
        "decode_responses": False,
        # RESP 2 has all that we ask for and connects without a HELLO; no CLIENT SETINFO either.
        "protocol": 2,
        "driver_info": None,
        "redis_connect_func": _naming(client_name),
    }


def _naming(name: str) -> Callable[[AbstractConnection], Awaitable[None]]:
    """Return what logs in and then names the connection; redis-py's own `client_name` fails without the right to."""

    async def connect(connection: AbstractConnection) -> None:
        await connection.on_connect()
        await connection.send_command("CLIENT", "SETNAME", name, check_health=False)
        with suppress(ResponseError):  # NOPERM: the name only helps people
            await connection.read_response()

    return connect


def _plain(address: RedisAddress, options: Options, max_connections: int) -> Client:
    [(host, port)] = address.hosts
    kind = SSLConnection if address.is_encrypted else Connection
    where = {"connection_class": kind, "host": host, "port": port, "db": address.database}
    return _blocking({**where, **address.options, **options}, max_connections)


def _socket(address: RedisAddress, options: Options, max_connections: int) -> Client:
    where = {"connection_class": UnixDomainSocketConnection, "path": address.path, "db": address.database}
    return _blocking({**where, **address.options, **options}, max_connections)


def _blocking(options: Options, max_connections: int) -> Client:
    wait = options["socket_timeout"] / 2
    # The caller has its own eye on the clock, and one that knows of a busy event loop. This timeout only lets go of a
    # connection on which nothing comes any more: were it as short, each slow moment would cost all connections.
    options = {**options, "socket_timeout": max(options["socket_timeout"], _SILENCE_SECONDS)}
    return _Single(Redis.from_pool(BlockingConnectionPool(max_connections=max_connections, timeout=wait, **options)))


def _sentinel(address: RedisAddress, options: Options, max_connections: int) -> Client:
    asked = {name: options[name] for name in ("socket_timeout", "socket_connect_timeout", "retry", "protocol")}
    asked |= {"driver_info": None, **address.sentinel_options}
    if asked.get("ssl"):
        asked |= address.tls_options
    manager = Sentinel(address.hosts, sentinel_kwargs=asked, **options)  # type: ignore[no-untyped-call]
    of_servers = {
        name: value for name, value in address.options.items() if address.is_encrypted or not name.startswith("ssl_")
    }
    # The pool itself and not `master_for`, which makes a new pool at each call. Sentinel's pool cannot wait for
    # a free connection: give it room for every caller that the read batcher lets through.
    pool = _SentinelPool(  # type: ignore[no-untyped-call]
        address.service,
        manager,
        ssl=address.is_encrypted,
        max_connections=max_connections,
        **{**of_servers, "db": address.database, **options},
    )
    return _Single(Redis.from_pool(pool))


class _Single:
    """One server, or the primary that Sentinel names."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        return await _pipeline(self.redis, commands)

    async def aclose(self) -> None:
        await self.redis.aclose()


class _Cluster:
    """A cluster, one pipeline per node: redis-py's own fails for all users when one node is gone."""

    def __init__(self, redis: RedisCluster) -> None:
        self.redis = redis
        self.observer = UNOBSERVED
        self._refresh: Supervised | None = None
        self._refreshed = 0.0

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        await self.redis.initialize()
        replies: list[Any] = [None] * len(commands)
        nodes: dict[str, list[int]] = {}
        for place, command in enumerate(commands):
            try:
                node = self.redis.get_node_from_key(command.key)  # type: ignore[arg-type]  # bytes are keys too
                nodes.setdefault(node.name if node is not None else "", []).append(place)
            except RedisClusterException as error:  # nobody serves this slot
                replies[place] = error
        shares = [[commands[place] for place in places] for places in nodes.values()]
        answers = await asyncio.gather(*[_pipeline(self.redis, share) for share in shares], return_exceptions=True)
        for (name, places), answer in zip(nodes.items(), answers, strict=True):
            if isinstance(answer, BaseException):
                self._look_again(name)
            for index, place in enumerate(places):
                replies[place] = answer if isinstance(answer, BaseException) else answer[index]
        if not nodes and commands:
            self._look_again(None)
        return replies

    async def aclose(self) -> None:
        if self._refresh is not None:
            await self._refresh.cancel()
        await self.redis.aclose()

    def _look_again(self, failed_node: str | None) -> None:
        """Ask another node, beside the requests, who serves what by now; redis-py would ask within its retries."""
        running = self._refresh is not None and not self._refresh.is_done
        if not running and time.monotonic() - self._refreshed >= _REFRESH_SECONDS:
            self._refreshed = time.monotonic()
            self._refresh = supervise_job("cluster_map", lambda: self._map(failed_node), self.observer)

    async def _map(self, failed_node: str | None) -> None:
        try:
            await self.redis.nodes_manager.initialize(last_failed_node_name=failed_node)
        except (RedisError, RedisClusterException, OSError):
            return  # the old map stays, and the next failure looks again


async def _pipeline(redis: Redis | RedisCluster, commands: Sequence[Command]) -> list[Any]:
    pipeline = redis.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command.words)
    return list(await pipeline.execute(raise_on_error=False))


class _SentinelPool(SentinelConnectionPool):
    """Closes its Sentinels' connections with its own, which redis-py leaves open."""

    async def aclose(self) -> None:
        await super().aclose()
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()


def _cluster(address: RedisAddress, options: Options, max_connections: int) -> Client:
    given = {name: value for name, value in options.items() if name != "redis_connect_func"}
    cluster = RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
        ssl=address.is_encrypted,
        max_connections=max_connections,
        # One shard down must not take the others' users with it.
        require_full_coverage=False,
        **given,
    )
    # Straight to the connections: redis-py's cluster has no parameter for some of these.
    more = {**address.options, "redis_connect_func": options["redis_connect_func"]}
    cluster.connection_kwargs.update(more)
    for node in cluster.startup_nodes:
        node.connection_kwargs.update(more)
    return _Cluster(cluster)


_MAKERS: Final[dict[str, Callable[[RedisAddress, Options, int], Client]]] = {
    "redis": _plain,
    "unix": _socket,
    "sentinel": _sentinel,
    "cluster": _cluster,
}
