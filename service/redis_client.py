"""The one place that makes Redis clients, and why each option is not redis-py's default.

redis-py is made for jobs that may wait: 5 s timeouts, 10 retries with back-off, and a pool that raises when it is
empty. On a ranking path of 20 ms that means one frozen Redis holds a request for 59 s (11 tries of 5 s), a killed one
for 3.6 s, and 98 of 100 concurrent calls on a small pool fail although waiting 20 ms would have served them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

Client = Redis | RedisCluster
Options = dict[str, Any]  # Any: keyword arguments of redis-py, which types them one by one

CLIENT_NAME: Final = "ranker"
SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_SENTINEL_PORT: Final = 26379
_REDIS_PORT: Final = 6379


class RedisUrlError(ValueError):
    """The Redis URL cannot be used; the message names what is wrong and never the URL, which may hold a password."""


def make_client(
    url: str,
    *,
    timeout_seconds: float,
    max_connections: int = 16,
    client_name: str = CLIENT_NAME,
) -> Client:
    """Make a client; nothing connects before its first command.

    Args:
        url: `redis://`, `rediss://` (TLS) and `unix://` as redis-py has them;
            `redis+sentinel://[user:password@]host:port,host:port/service[/database]`;
            `redis+cluster://[user:password@]host:port,host:port`. The last two also as `rediss+...`.
        timeout_seconds: the caller's budget, for connecting and for each reply alike.
        max_connections: of the pool; the next caller waits for half the budget.
        client_name: shown by CLIENT LIST.

    Raises:
        RedisUrlError: malformed, or of an unknown scheme.
    """
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise RedisUrlError(f"the scheme must be one of {', '.join(SCHEMES)}")
    options = _options(timeout_seconds, client_name)
    make = _MAKERS[scheme.rpartition("+")[2]]
    try:
        return make(url, options, max_connections)
    except RedisUrlError:
        raise
    except ValueError as error:
        raise RedisUrlError("the URL has a malformed part (host, port, database or option)") from error


def _options(timeout_seconds: float, client_name: str) -> Options:
    return {
        # Both at the budget: a frozen server accepts connections and never answers, a lost one never accepts.
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
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
    return Redis.from_pool(BlockingConnectionPool(max_connections=max_connections, timeout=wait, **options))


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
    pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
        unquote(service),
        manager,
        ssl=parts.scheme.startswith("rediss"),
        max_connections=max_connections,
        **{**credentials, **dict(parse_qsl(parts.query)), "db": int(database or 0), **options},
    )
    return Redis.from_pool(pool)


def _cluster(url: str, options: Options, max_connections: int) -> Client:
    parts = urlsplit(url)
    credentials, hosts = _authority(parts.netloc, _REDIS_PORT)
    return RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in hosts],
        ssl=parts.scheme.startswith("rediss"),
        max_connections=max_connections,
        # One shard down must not take the others' users with it.
        require_full_coverage=False,
        **{**credentials, **dict(parse_qsl(parts.query)), **options},
    )


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
