"""The sink's Redis client, for every kind of URL that the service accepts.

redis-py's own topologies are enough here: a sink may wait, and starts again from its unacknowledged events.
"""

from __future__ import annotations

from typing import Any, Final

from redis import Redis, Sentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from contract.redis_url.address import RedisAddress

Client = Any  # Redis or RedisCluster: both have `execute_command`, and redis-py's replies have no types
Options = dict[str, Any]  # Any: redis-py's arguments, of many types


def connect(address: RedisAddress, timeout_seconds: float) -> Client:
    """Return a client that connects with its first command."""
    return _MAKERS[address.kind](address, _options(address, timeout_seconds))


def _greet(connection: Any) -> None:  # Any: redis-py's connections, of several types
    """Log in, then wait for one reply.

    A server of TLS 1.3 sends session tickets after the handshake. While they are unread, redis-py takes them for a part
    of an old reply and refuses the connection. Every user may send HELLO.
    """
    connection.on_connect()
    connection.send_command("HELLO", 2)
    connection.read_response()


def _options(address: RedisAddress, timeout_seconds: float) -> Options:
    return {
        **{name: value for name, value in address.options.items() if address.is_encrypted or name[:4] != "ssl_"},
        **({"ssl": True, "redis_connect_func": _greet} if address.is_encrypted else {}),
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),  # the sink's own loop tries again, from the unacknowledged events
        "health_check_interval": 0,
        "protocol": 2,
        "driver_info": None,  # no CLIENT SETINFO, which needs a right of its own
    }


def _one_server(address: RedisAddress, options: Options) -> Client:
    host, port = address.hosts[0]
    return Redis(host=host, port=port, db=address.database, **options)


def _socket(address: RedisAddress, options: Options) -> Client:
    return Redis(unix_socket_path=address.path, db=address.database, **options)


def _sentinel(address: RedisAddress, options: Options) -> Client:
    own = {**address.sentinel_options, "socket_timeout": options["socket_timeout"]}
    tls = {**address.tls_options, "redis_connect_func": _greet} if own.get("ssl") else {}
    make: Any = Sentinel  # Any: it has no types
    sentinels = make(list(address.hosts), sentinel_kwargs={**own, **tls}, **options)
    return sentinels.master_for(address.service, db=address.database)


def _cluster(address: RedisAddress, options: Options) -> Client:
    make: Any = ClusterNode  # Any: it has no types
    nodes = [make(host, port) for host, port in address.hosts]
    return RedisCluster(startup_nodes=nodes, **options)


_MAKERS: Final = {"redis": _one_server, "unix": _socket, "sentinel": _sentinel, "cluster": _cluster}
