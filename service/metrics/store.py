"""Metrics of Redis: reads, writes, streams, memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from contract.events.streams import ACTIVITY_STREAM, EXPOSURE_STREAM, RANKING_STREAM
from service.metrics.families import Families
from service.names import ErrorKind, StoreKind, StoreState

_STREAMS = (EXPOSURE_STREAM, ACTIVITY_STREAM, RANKING_STREAM)
_SERVERS = ("behaviours", "streams")


class StoreMetrics:
    """Counts what happens between the service and Redis.

    Args:
        families: where they are declared.
    """

    def __init__(self, families: Families) -> None:
        self._store_up = families.gauge("ranker_store_up", "0 while every read, write or event fails.", "min", kind=())
        self._store_errors = families.counter(
            "ranker_store_errors_total", "Errors of the store.", kind=get_args(ErrorKind)
        )
        self._trimmed = families.counter(
            "ranker_behaviours_trimmed_total", "Behaviours dropped.", kind=("usable", "other")
        )
        self._breakers = families.gauge(
            "ranker_store_breaker_open", "Servers of the store that get only probes.", "max", kind=()
        )
        self._unconfirmed = families.counter(
            "ranker_store_unconfirmed_total", "Round trips of writes that no replica confirmed."
        ).of()
        self._stream_depth = families.gauge(
            "ranker_stream_queue_depth", "Events waiting to be written.", "sum", stream=()
        )
        self._declare_streams(families)

    def _declare_streams(self, families: Families) -> None:
        self._stream_trimmed = families.counter(
            "ranker_stream_trimmed_total", "Oldest events dropped.", stream=_STREAMS
        )
        self._replayed = families.counter("ranker_stream_replayed_total", "Events from the spool.", stream=_STREAMS)
        self._spool_damaged = families.counter("ranker_spool_damaged_total", "Lines of the spool not read.").of()
        # Each process counts the same evictions.
        self._evicted = families.counter(
            "ranker_redis_evicted_keys_total", "Keys evicted by Redis.", across="max", redis=_SERVERS
        )
        self._memory = families.gauge("ranker_redis_memory_ratio", "Memory used of maxmemory.", "max", redis=_SERVERS)

    def store_error(self, kind: str) -> None:
        """Count an error of a closed list of kinds."""
        self._store_errors.of(kind).inc()

    def store_unconfirmed(self) -> None:
        """Count a round trip of writes that only a primary has confirmed."""
        self._unconfirmed.inc()

    def watch_store(self, kind: StoreKind, state: Callable[[], StoreState]) -> None:
        """Ask for a client's state at each scrape."""
        self._store_up.watch((kind,), lambda: state().is_up)
        self._breakers.watch((kind,), lambda: state().open_breakers)

    def behaviours_trimmed(self, *, usable: int, other: int) -> None:
        """Count behaviours dropped from histories that were too long, by whether a served model can use them."""
        self._trimmed.of("usable").inc(usable)
        self._trimmed.of("other").inc(other)

    def watch_stream(self, name: str, depth: Callable[[], int]) -> None:
        """Ask for a stream's depth at each scrape."""
        self._stream_depth.watch((name,), depth)

    def stream_trimmed(self, name: str, count: int) -> None:
        """Count the oldest events of a stream, dropped to keep it at its length."""
        self._stream_trimmed.of(name).inc(count)

    def events_replayed(self, stream: str, count: int) -> None:
        """Count events of the spool that were written to a stream."""
        self._replayed.of(stream).inc(count)

    def spool_damaged(self, count: int) -> None:
        """Count lines of the spool that could not be read, or that Redis will never take."""
        self._spool_damaged.inc(count)

    def redis_evicted(self, redis: str, count: int) -> None:
        """Count keys that a Redis has evicted since it was last looked at."""
        self._evicted.of(redis).inc(count)

    def redis_memory(self, redis: str, ratio: float) -> None:
        """Note how much of its maxmemory the fullest server of a Redis uses."""
        self._memory.of(redis).value = ratio
