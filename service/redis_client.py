"""The one place that makes Redis clients, and why each option is not redis-py's default.

redis-py is made for jobs that may wait: 5 s timeouts, 10 retries with back-off, and a pool that raises when it is
empty. On a ranking path of 20 ms that means one frozen Redis holds a request for 59 s (11 tries of 5 s), a killed one
for 3.6 s, and 98 of 100 concurrent calls on a small pool fail although waiting 20 ms would have served them all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from service.supervision import UNOBSERVED, Supervised, TaskObserver, supervise_job

Options = dict[str, Any]  # Any: keyword arguments of redis-py, which types them one by one

CLIENT_NAME: Final = "ranker"
SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_SENTINEL_PORT: Final = 26379
_REDIS_PORT: Final = 6379
_REPLY_SHARE: Final = 0.8  # of a budget, for one reply: a node that is silent leaves time to use what others answered
_SILENCE_SECONDS: Final = 0.25  # after which a connection to a single server is given up
_REFRESH_SECONDS: Final = 1.0  # between two looks at the map of a cluster with a node that does not answer


class RedisUrlError(ValueError):
    """The Redis URL cannot be used; the message names what is wrong and never the URL, which may hold a password."""


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
    url: str,
    *,
    timeout_seconds: float,
    max_connections: int = 16,
    client_name: str = CLIENT_NAME,
    observer: TaskObserver = UNOBSERVED,
) -> Client:
    """Make a client; nothing connects before its first command.

    Args:
        url: `redis://`, `rediss://` (TLS) and `unix://` as redis-py has them;
            `redis+sentinel://[user:password@]host:port,host:port/service[/database]`;
            `redis+cluster://[user:password@]host:port,host:port`. The last two also as `rediss+...`.
        timeout_seconds: the caller's budget for a call; connecting, and each reply of a cluster's node or a Sentinel's
            primary, get four fifths of it.
        max_connections: of the pool; the next caller waits for half the budget.
        client_name: shown by CLIENT LIST.
        observer: counts restarts of a cluster's background task.

    Raises:
        RedisUrlError: malformed, or of an unknown scheme.
    """
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise RedisUrlError(f"the scheme must be one of {', '.join(SCHEMES)}")
    options = _options(timeout_seconds, client_name)
    make = _MAKERS[scheme.rpartition("+")[2]]
    try:
        client = make(url, options, max_connections)
    except RedisUrlError:
        raise
    except ValueError as error:
        raise RedisUrlError("the URL has a malformed part (host, port, database or option)") from error
    if isinstance(client, _Cluster):
        client.observer = observer
    return client


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
        "client_name": client_name,
    }


def _plain(url: str, options: Options, max_connections: int) -> Client:
    # Ours last: an option in the URL may add (a CA file, a database) but not take the budget away.
    return _blocking({**parse_url(url), **options}, max_connections)


def _blocking(options: Options, max_connections: int) -> Client:
    wait = options["socket_timeout"] / 2
    # The caller has its own eye on the clock, and one that knows of a busy event loop. This timeout only lets go of a
    # connection on which nothing comes any more: were it as short, each slow moment would cost all connections.
    options = {**options, "socket_timeout": max(options["socket_timeout"], _SILENCE_SECONDS)}
    return _Single(Redis.from_pool(BlockingConnectionPool(max_connections=max_connections, timeout=wait, **options)))


def _sentinel(url: str, options: Options, max_connections: int) -> Client:
    parts = urlsplit(url)
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise RedisUrlError("a Sentinel URL ends in the name of the service: redis+sentinel://host:port/service")
    credentials, hosts = _authority(parts.netloc, _SENTINEL_PORT)
    timeouts = {key: options[key] for key in ("socket_timeout", "socket_connect_timeout", "retry", "protocol")}
    manager = Sentinel(  # type: ignore[no-untyped-call]
        hosts, sentinel_kwargs={**timeouts, "driver_info": None}, **options
    )
    # The pool itself and not `master_for`, which makes a new pool at each call. Sentinel's pool cannot wait for
    # a free connection: give it room for every caller that the read batcher lets through.
    pool = _SentinelPool(  # type: ignore[no-untyped-call]
        unquote(service),
        manager,
        ssl=parts.scheme.startswith("rediss"),
        max_connections=max_connections,
        **{**credentials, **dict(parse_qsl(parts.query)), "db": int(database or 0), **options},
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


def _cluster(url: str, options: Options, max_connections: int) -> Client:
    parts = urlsplit(url)
    credentials, hosts = _authority(parts.netloc, _REDIS_PORT)
    cluster = RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in hosts],
        ssl=parts.scheme.startswith("rediss"),
        max_connections=max_connections,
        # One shard down must not take the others' users with it.
        require_full_coverage=False,
        **{**credentials, **dict(parse_qsl(parts.query)), **options},
    )
    return _Cluster(cluster)


def _authority(netloc: str, default_port: int) -> tuple[Options, list[tuple[str, int]]]:
    """Split `user:password@host:port,host:port` into credentials and hosts."""
    login, _, addresses = netloc.rpartition("@")
    user, _, password = login.partition(":")
    credentials: Options = {"username": unquote(user)} if user else {}
    if password:
        credentials["password"] = unquote(password)
    hosts = [_address(address, default_port) for address in addresses.split(",") if address]
    if not hosts:
        raise RedisUrlError("the URL names no host")
    return credentials, hosts


def _address(address: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{address}")
    if not parts.hostname:
        raise ValueError(address)
    return parts.hostname, parts.port or default_port


_MAKERS: Final[dict[str, Callable[[str, Options, int], Client]]] = {
    "redis": _plain,
    "rediss": _plain,
    "unix": _plain,
    "sentinel": _sentinel,
    "cluster": _cluster,
}
