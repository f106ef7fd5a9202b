"""The one place that creates Redis clients, with the reason for each option that is not redis-py's default.

redis-py is made for jobs that may wait: 5 s timeouts, 10 retries with back-off, and a pool that raises when it is
empty. On a ranking path of 20 ms one frozen Redis would block a request for 59 s (11 tries of 5 s), a killed one
for 3.6 s, and 98 of 100 concurrent calls on a small pool fail although waiting 20 ms would have served them all. Its
Cluster client forgets the configured addresses, and its Sentinel client keeps its connections to an old primary; so
both are replaced by service/redis/routing.py, over redis-py's connections.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from redis.asyncio import Connection, ConnectionPool, SSLConnection
from redis.asyncio.connection import AbstractConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from contract.redis_url.address import RedisAddress, RedisUrlError
from contract.redis_url.parse import parse_redis_url
from service.flow.breaker import Breaker
from service.flow.supervision import UNOBSERVED, TaskObserver
from service.names import StoreState
from service.redis.cluster import Cluster
from service.redis.node import Address, Command, Node
from service.redis.replication import Replication
from service.redis.routing import OneServer, RoutedClient, Topology
from service.redis.sentinel import Sentinels

__all__ = ["CLIENT_NAME", "Client", "Command", "Confirmation", "make_client"]

Options = dict[str, Any]  # Any: keyword arguments of redis-py, which types them one by one

CLIENT_NAME: Final = "ranker"
_CONNECT_SHARE: Final = 0.8  # of a budget: the rest is for the reply
# The caller has a separate timer, which allows for a busy event loop. This timeout only closes a dead connection: if it
# were as short, each slow moment would close all connections.
_SILENCE_SECONDS: Final = 0.25
# Appends that a server has queued at once. A read waits for earlier commands, because the server runs them in order:
# more appends would only make it wait longer.
_WRITES_AT_ONCE: Final = 2
_WAIT_SHARE: Final = 0.4  # of a budget, for a replica's confirmation: enough is left for a second try
# How long a primary without its replicas is not trusted. Sentinels need a second or two to name the new primary; the
# nodes of a Cluster tell one another within milliseconds.
_SENTINEL_GRACE_SECONDS: Final = 5.0
_CLUSTER_GRACE_SECONDS: Final = 0.0


class Client(Protocol):
    """The interface of the stores to any kind of Redis."""

    async def run(self, commands: Sequence[Command]) -> list[Any]:  # Any: a reply, of a type that the command knows
        """Send commands in one round trip (per node); an error replaces the reply of its command."""

    def begin(self, commands: Sequence[Command], done: Callable[[list[Any]], None]) -> bool:
        """Send commands as `run` does, without a coroutine, if that is possible; return whether it was."""

    def state(self) -> StoreState:
        """Return the health of the client's servers."""

    async def aclose(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Asks for writes to be on a replica too, if Sentinels or a Cluster can replace a primary."""

    on_unconfirmed: Callable[[], None]  # called for a round trip of writes that only a primary has confirmed


@dataclass(frozen=True)
class _Maker:
    """Creates the servers of one client."""

    address: RedisAddress
    options: Options
    timeout_seconds: float
    max_connections: int
    observer: TaskObserver
    breaker: Callable[[], Breaker] = field(default=Breaker)
    confirmation: Confirmation | None = None

    def server(self, where: Address, grace_seconds: float | None = None) -> Node:
        kind = SSLConnection if self.address.is_encrypted else Connection
        tls = {} if self.address.is_encrypted else self.address.tls_options
        own = {name: value for name, value in self.address.options.items() if name not in tls}
        place = {"host": where[0], "port": where[1], "db": self.address.database}
        return self._node({"connection_class": kind, **own, **place}, where[0], grace_seconds)

    def socket(self) -> Node:
        place = {"path": self.address.path, "db": self.address.database}
        return self._node({"connection_class": UnixDomainSocketConnection, **self.address.options, **place})

    def sentinel(self, where: Address) -> Node:
        own = {name: value for name, value in self.address.sentinel_options.items() if name != "ssl"}
        encrypted = bool(self.address.sentinel_options.get("ssl"))
        kind = SSLConnection if encrypted else Connection
        tls = self.address.tls_options if encrypted else {}
        return self._node({"connection_class": kind, **own, **tls, "host": where[0], "port": where[1]}, where[0])

    def _node(self, place: Options, host: str = "", grace_seconds: float | None = None) -> Node:
        replication = None
        if self.confirmation is not None and grace_seconds is not None:
            wait_ms = int(1000 * self.timeout_seconds * _WAIT_SHARE)
            replication = Replication(
                wait_ms=wait_ms, grace_seconds=grace_seconds, on_unconfirmed=self.confirmation.on_unconfirmed
            )
        # Our options last: an option in the URL may add (a CA file) but must not override the budget.
        options = {**place, **self.options, "max_connections": self.max_connections + 1}
        return Node(
            lambda: ConnectionPool(**options),
            host=host,
            max_connections=self.max_connections,
            max_pieces=None if self.confirmation is None else _WRITES_AT_ONCE,
            timeout_seconds=self.timeout_seconds,
            breaker=self.breaker(),
            replication=replication,
            observer=self.observer,
        )


def make_client(
    address: RedisAddress | str,
    *,
    timeout_seconds: float,
    max_connections: int = 16,
    client_name: str = CLIENT_NAME,
    breaker: Callable[[], Breaker] = Breaker,
    confirmation: Confirmation | None = None,
    observer: TaskObserver = UNOBSERVED,
) -> Client:
    """Create a client; it connects with its first command.

    Args:
        address: a parsed URL, or one for `parse_redis_url`.
        timeout_seconds: the caller's total budget for a call; connecting gets four fifths of it.
        max_connections: to each server; a further caller waits for one as long as its budget allows.
        client_name: shown by CLIENT LIST, if the user's ACL allows CLIENT SETNAME.
        breaker: creates the breaker of each server.
        confirmation: for a client that writes.
        observer: counts restarts of background tasks.

    Raises:
        RedisUrlError: the URL is malformed, or its TLS files cannot be used.
    """
    if isinstance(address, str):
        address = parse_redis_url(address)
    if address.tls_options:
        _check_tls(address.tls_options)
    options = _options(timeout_seconds, client_name)
    maker = _Maker(address, options, timeout_seconds, max_connections, observer, breaker, confirmation)
    return RoutedClient(_TOPOLOGIES[address.kind](maker), timeout_seconds, observer)


def _check_tls(options: Options) -> None:
    """Load the certificates now, so that a wrong path is reported at start and not at each connection."""
    try:
        SSLConnection(**options).ssl_context.get()
    except (OSError, ValueError) as error:
        raise RedisUrlError(f"the TLS files or ciphers cannot be used ({type(error).__name__})") from error


def _options(timeout_seconds: float, client_name: str) -> Options:
    return {
        # Both are bounded: a frozen server accepts connections and never answers, a lost one never accepts.
        "socket_timeout": max(timeout_seconds, _SILENCE_SECONDS),
        "socket_connect_timeout": timeout_seconds * _CONNECT_SHARE,
        # No retries by redis-py: the router knows the budget, and whether to ask another server.
        "retry": Retry(NoBackoff(), 0),
        # The health check is a PING before a command, so it doubles the wait for a slow Redis.
        "health_check_interval": 0,
        # Bytes: with decoding on, one bad byte raises UnicodeDecodeError, which is not a RedisError.
        "decode_responses": False,
        # RESP 2 is sufficient and connects without a HELLO; no CLIENT SETINFO either.
        "protocol": 2,
        "driver_info": None,
        "redis_connect_func": _naming(client_name),
    }


def _naming(name: str) -> Callable[[AbstractConnection], Awaitable[None]]:
    """Return a function that logs in and names the connection; redis-py's `client_name` fails without the right."""

    async def connect(connection: AbstractConnection) -> None:
        await connection.on_connect()
        await connection.send_command("CLIENT", "SETNAME", name, check_health=False)
        with suppress(ResponseError):  # NOPERM: the name only helps people
            await connection.read_response()

    return connect


def _one_server(maker: _Maker) -> Topology:
    return OneServer(maker.server(maker.address.hosts[0]))


def _socket(maker: _Maker) -> Topology:
    return OneServer(maker.socket())


def _sentinels(maker: _Maker) -> Topology:
    sentinels = [maker.sentinel(where) for where in maker.address.hosts]
    return Sentinels(sentinels, maker.address.service, lambda where: maker.server(where, _SENTINEL_GRACE_SECONDS))


def _cluster(maker: _Maker) -> Topology:
    def node(where: Address) -> Node:
        return maker.server(where, _CLUSTER_GRACE_SECONDS)

    return Cluster(maker.address.hosts, node, maker.server)


_TOPOLOGIES: Final[dict[str, Callable[[_Maker], Topology]]] = {
    "redis": _one_server,
    "unix": _socket,
    "sentinel": _sentinels,
    "cluster": _cluster,
}
