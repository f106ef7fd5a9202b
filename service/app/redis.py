"""The parts that talk to Redis: the store of behaviours, the sinks of events, the watch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from contract.redis_url.address import RedisAddress, RedisUrlError
from service.bundles.bundle import Bundle
from service.errors import StartError
from service.flow.supervision import supervise
from service.metrics import Metrics
from service.names import StoreKind
from service.redis.client import Client, Confirmation, make_client
from service.redis.watch import Instance, RedisWatch, ranking_log_bytes
from service.settings.root import Settings
from service.store.behaviours import RedisBehaviourStore
from service.store.items import ItemStore
from service.store.sinks import Sinks, no_sinks, open_sinks

_KNOWN_BYTES: Final = 2**24  # values of some thousand users; they are known only where their states are kept too
_ITEM_CONNECTIONS: Final = 2
_STREAM_CONNECTIONS: Final = 4  # three flushers and the replay


@dataclass(frozen=True, slots=True)
class NamedRedis:
    """A Redis that a variable names."""

    variable: str
    address: RedisAddress

    def client(
        self,
        timeout_ms: int,
        max_connections: int,
        metrics: Metrics,
        kind: StoreKind | None = None,
        confirm: bool = False,
    ) -> Client:
        """Create a client; one with a kind is watched, and all except reads wait for a replica's confirmation."""
        writes = confirm or kind in ("writes", "events")
        try:
            client = make_client(
                self.address,
                timeout_seconds=timeout_ms / 1000,
                max_connections=max_connections,
                confirmation=Confirmation(metrics.store_unconfirmed) if writes else None,
                observer=metrics,
            )
        except RedisUrlError as error:
            raise StartError(f"{self.variable}: {error}") from error
        if kind is not None:
            metrics.watch_store(kind, client.state)
        return client


def redis_of_behaviours(settings: Settings) -> NamedRedis:
    """Return the Redis of behaviours."""
    return NamedRedis("RANKER_REDIS__URL", settings.redis.address)


def redis_of_streams(settings: Settings) -> NamedRedis:
    """Return the Redis of the streams, which may be that of behaviours."""
    own = settings.streams.url is not None
    return NamedRedis("RANKER_STREAMS__URL" if own else "RANKER_REDIS__URL", settings.streams_address)


def behaviour_store(settings: Settings, metrics: Metrics, served: Callable[[], list[Bundle]]) -> RedisBehaviourStore:
    """Return the store of behaviours, with connections of its own for reads and for writes."""
    chosen, redis = settings.redis, redis_of_behaviours(settings)
    return RedisBehaviourStore(
        redis.client(chosen.read_timeout_ms, chosen.max_connections, metrics, "reads"),
        redis.client(chosen.write_timeout_ms, chosen.max_connections, metrics, "writes"),
        read_length=chosen.read_length,
        max_length=chosen.max_length,
        ttl_seconds=chosen.ttl_s,
        observer=metrics,
        served=served,
        prefix=chosen.prefix,
        known_bytes=_KNOWN_BYTES if settings.inference.state_cache_entries else 0,
    )


def item_store(settings: Settings, metrics: Metrics) -> ItemStore:
    """Return the store of features of items, in the Redis of behaviours, with a connection or two of its own."""
    chosen, redis = settings.redis, redis_of_behaviours(settings)
    return ItemStore(
        redis.client(chosen.read_timeout_ms, _ITEM_CONNECTIONS, metrics),
        redis.client(chosen.write_timeout_ms, _ITEM_CONNECTIONS, metrics, confirm=True),
        ttl_seconds=chosen.item_ttl_s,
        observer=metrics,
        prefix=chosen.prefix,
    )


async def event_sinks(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Sinks:
    """Return where events go: streams that are flushed, or nowhere."""
    if not settings.streams.enabled:
        return no_sinks(metrics)
    redis, timeout_ms = redis_of_streams(settings), settings.streams.write_timeout_ms
    return await open_sinks(settings, redis.client(timeout_ms, _STREAM_CONNECTIONS, metrics, "events"), metrics, stack)


def watch_redis(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> None:
    """Check the servers periodically, over separate connections."""
    streams = settings.streams
    own = streams.enabled and streams.url is not None
    instances = [_instance("behaviours", redis_of_behaviours(settings), settings, metrics, stack)]
    instances[0].keeps_streams = streams.enabled and not own
    if own:
        instances.append(_instance("streams", redis_of_streams(settings), settings, metrics, stack))
        instances[1].keeps_streams = True
    log_bytes = ranking_log_bytes(settings.ranking_log)
    watch = supervise("redis_watch", RedisWatch(instances, streams.max_length, metrics, log_bytes).run, metrics)
    stack.push_async_callback(watch.cancel)


def _instance(name: str, redis: NamedRedis, settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Instance:
    client = redis.client(settings.streams.write_timeout_ms, 1, metrics)
    stack.push_async_callback(client.aclose)
    is_cluster = redis.address.kind == "cluster"
    return Instance(name, client, is_cluster, keeps_behaviours=name == "behaviours", keeps_streams=False)
