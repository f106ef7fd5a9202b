"""Checks the Redis servers periodically: their configuration, and evicted keys.

Every check is an INFO. Without the right to INFO, one line is logged, and nothing else changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from redis import exceptions as redis_errors

from contract.events.streams import ACTIVITY_STREAM, EXPOSURE_STREAM
from service.metrics import Metrics
from service.redis.client import Client, Command
from service.settings.ranking_log import RankingLogSettings

INTERVAL_SECONDS: Final = 10.0
# Measured: bytes in Redis of one event with every field and ids of 128 bytes (docs/operations.md has shorter ones).
# They depend on the time between events: Redis packs their ids.
EVENT_BYTES: Final = {EXPOSURE_STREAM: 770, ACTIVITY_STREAM: 1_290}
RANKING_BYTES: Final = (650, 165)  # the same of a ranking in the log: without items, and of each item
_CLUSTER_KEYS: Final = [b"%d" % number for number in range(64)]  # enough to meet every primary of a Cluster
_MEGABYTE: Final = 1_000_000

_log = structlog.get_logger(__name__)

Info = Mapping[str, str]


@dataclass(slots=True)
class Instance:
    """One Redis: a server, or a Cluster."""

    name: str  # behaviours or streams
    client: Client
    is_cluster: bool
    keeps_behaviours: bool
    keeps_streams: bool
    evicted: dict[str, int] = field(default_factory=dict)  # by run id, at the last look
    is_refused: bool = False


class RedisWatch:
    """Polls the instances; run it as a supervised task.

    Args:
        instances: one, or the behaviours' and the streams'.
        max_length: entries that a stream keeps.
        observer: counts.
        ranking_log_bytes: the most that the ranking log needs; 0 without one.
    """

    def __init__(
        self, instances: Sequence[Instance], max_length: int, observer: Metrics, ranking_log_bytes: int = 0
    ) -> None:
        self._instances, self._max_length, self._observer = instances, max_length, observer
        self._log_bytes = ranking_log_bytes
        self._owners: dict[str, str] = {}  # of a server, by run id

    async def run(self) -> None:
        """Check periodically."""
        while True:
            for instance in self._instances:
                await self.look(instance)
            await asyncio.sleep(INTERVAL_SECONDS)

    async def look(self, instance: Instance) -> None:
        """Check all servers of an instance once; one that does not answer is left for the next check."""
        keys = _CLUSTER_KEYS if instance.is_cluster else [b""]
        try:
            replies = await instance.client.run([Command(key, ("INFO",)) for key in keys])
        except Exception as error:  # the store reports that Redis is down; this only misses a check
            _log.debug("redis_look_failed", redis=instance.name, error=type(error).__name__)
            return
        self._note_refusal(instance, replies)
        servers = {info["run_id"]: info for info in map(info_of, replies) if info.get("run_id")}
        for run_id, info in servers.items():
            self._note(instance, run_id, info)
        if servers:
            self._observer.redis_memory(instance.name, max(map(_fullness, servers.values())))

    def _note(self, instance: Instance, run_id: str, info: Info) -> None:
        evicted = number(info, "evicted_keys")
        if run_id not in instance.evicted:
            for problem in [
                *problems(info, instance, self._max_length, self._log_bytes),
                *self._shared(instance, run_id),
            ]:
                _log.warning("redis_setup", redis=instance.name, problem=problem)
        else:
            self._observer.redis_evicted(instance.name, max(evicted - instance.evicted[run_id], 0))
        instance.evicted[run_id] = evicted

    def _shared(self, instance: Instance, run_id: str) -> Iterable[str]:
        owner = self._owners.setdefault(run_id, instance.name)
        if owner != instance.name:
            yield f"this is also the server of the {owner}: {_SHARED}"

    def _note_refusal(self, instance: Instance, replies: Sequence[object]) -> None:
        if any(isinstance(reply, redis_errors.NoPermissionError) for reply in replies) and not instance.is_refused:
            instance.is_refused = True
            problem = "the user may not call INFO: memory, eviction and persistence are not checked (+info allows it)"
            _log.warning("redis_setup", redis=instance.name, problem=problem)


_SHARED: Final = "full streams can evict behaviours, or stop their appends; give the streams a server of their own"


def problems(info: Info, instance: Instance, max_length: int, log_bytes: int) -> list[str]:
    """Return the problems of a server's setup for its data."""
    found = []
    maxmemory, policy = number(info, "maxmemory"), info.get("maxmemory_policy", "")
    if not maxmemory:
        found.append("maxmemory is not set: it grows until the machine has no memory left")
    if number(info, "aof_enabled") == 0:
        found.append("appendonly is off: a restart of Redis loses what it keeps since the last snapshot")
    if instance.keeps_streams:
        found += _stream_problems(maxmemory, policy, max_length, log_bytes)
        if instance.keeps_behaviours:
            found.append(f"exposures and feedback share the behaviours' server: {_SHARED} (RANKER_STREAMS__URL)")
    return found


def _stream_problems(maxmemory: int, policy: str, max_length: int, log_bytes: int) -> Iterable[str]:
    each = sum(EVENT_BYTES.values())
    needed, room = max_length * each + log_bytes, max(maxmemory - log_bytes, 0)
    if maxmemory and needed > maxmemory:
        log = f" and the ranking log ({log_bytes // _MEGABYTE} MB)" if log_bytes else ""
        yield (
            f"two streams of {max_length} events{log} need up to {needed // _MEGABYTE} MB and maxmemory is "
            f"{maxmemory // _MEGABYTE} MB: set RANKER_STREAMS__MAX_LENGTH to {room // each} or less"
            f"{', or a lower RANKER_RANKING_LOG__MAX_LENGTH' if log_bytes else ''}"
        )
    if policy.startswith("allkeys"):
        yield f"maxmemory-policy is {policy}, which evicts whole streams: use noeviction"


def ranking_log_bytes(settings: RankingLogSettings) -> int:
    """Return the most memory that the ranking log needs in Redis."""
    if not settings.share:
        return 0
    base, item = RANKING_BYTES
    return settings.max_length * (base + item * settings.top)


def info_of(reply: object) -> dict[str, str]:
    """Return the fields of an INFO reply, none of an error."""
    if isinstance(reply, dict):  # redis-py has parsed it
        return {str(name): str(value) for name, value in reply.items()}
    if not isinstance(reply, bytes):
        return {}
    lines = [line.partition(":") for line in reply.decode("utf-8", "replace").splitlines() if ":" in line]
    return {name: value for name, _, value in lines}


def number(info: Info, name: str) -> int:
    """Return a whole number of an INFO reply, -1 where it is missing."""
    text = info.get(name, "")
    return int(text) if text.isdecimal() else -1


def _fullness(info: Info) -> float:
    maxmemory = number(info, "maxmemory")
    return number(info, "used_memory") / maxmemory if maxmemory > 0 else 0.0
