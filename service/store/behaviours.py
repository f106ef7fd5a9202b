"""Stored behaviours: read for a batch of users in one round trip, appended atomically per user.

The format is contract.behaviours.records: one string per user under `<prefix>bhv:{<user>}`. The braces are a Cluster
hash tag: other data of a user can be in the same slot.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final, Literal, cast

import numpy as np
import structlog
from redis import exceptions as redis_errors

from contract.behaviours.records import RECORD, RECORD_BYTES, Records, unpack
from service.bundles.bundle import Bundle
from service.metrics import Metrics
from service.redis.client import Client, Command
from service.redis.errors import LeftAlone, kind_of
from service.store.append_script import APPEND_SCRIPT
from service.store.appended import in_order
from service.store.known_values import KnownValues, Status, StoredBehaviours
from service.store.trimming import Trimmer, longest

__all__ = ["AppendResult", "RedisBehaviourStore", "StoreUnavailable", "StoredBehaviours"]

_EMPTY: Final[Records] = np.zeros(0, dtype=RECORD)
_SCRIPT_SHA: Final = sha1(APPEND_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_INLINE_BYTES: Final = 524_288  # 0.3 ms; decoding less than this is cheaper for the event loop than a hop to a thread

_SCANS: Final = 20  # round trips of a list of users
_GLOB: Final = re.compile(rb"([*?\[\]\\^-])")  # characters with a special meaning in a pattern of Redis

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AppendResult:
    """The result of storing one user's behaviours."""

    stored: int = 0
    repeated: int = 0  # exact repeats of stored ones, or of one another: dropped, so that a retry is harmless
    error: Literal["wrong_type", "unavailable"] | None = None


class StoreUnavailable(Exception):  # noqa: N818 - reads as a state, like the rest of the service's errors
    """The store accepted nothing: it is down, slow or refuses writes. Appending again is safe."""


class RedisBehaviourStore:
    """Behaviours in Redis; a server that is down costs a request at most its client's timeout, and soon nothing.

    Args:
        reads: client for the ranking path. It has separate connections and breakers, so that a flood of appends
            does not block rankings.
        writes: client for appends.
        read_length: how many of the newest behaviours a read returns.
        max_length: maximum behaviours per user; trimmed when 25% over.
        ttl_seconds: how long an inactive user is kept; 0 means forever.
        observer: counts errors.
        served: the served bundles, which determine the trimming of a history.
        prefix: the prefix of every key (RANKER_REDIS__PREFIX).
        known_bytes: memory for the values that were read last.
    """

    def __init__(
        self,
        reads: Client,
        writes: Client,
        *,
        read_length: int,
        max_length: int,
        ttl_seconds: int,
        observer: Metrics,
        served: Callable[[], Sequence[Bundle]] = tuple,
        prefix: str = "",
        known_bytes: int = 0,
    ) -> None:
        self._known = KnownValues(known_bytes)
        self._prefix = prefix.encode() + b"bhv:{"
        self._reads, self._writes = reads, writes
        self._length = read_length
        self._whole = longest(max_length)
        self._append_arguments = (max_length * RECORD_BYTES, ttl_seconds)
        self._observer = observer
        self._decoding: set[asyncio.Task[None]] = set()
        self._trimmer = Trimmer(writes, served, max_length, observer)

    async def read(self, user_ids: Sequence[str]) -> list[StoredBehaviours]:
        """Return each user's newest behaviours, in the order asked; never raises."""
        try:
            replies = await self._fetch(user_ids, self._length)
            self._count_errors(replies)
            return await self._contents(replies)
        except Exception as error:
            return self._unavailable(user_ids, error)

    def begin_read(self, user_ids: Sequence[str], done: Callable[[list[StoredBehaviours]], None]) -> bool:
        """Read as `read` does, without a coroutine; return whether that was possible.

        Args:
            user_ids: one or more.
            done: called once, later, with what `read` returns; must not raise.
        """

        def have(replies: list[Any]) -> None:
            try:
                self._count_errors(replies)
                found, new = self._known_of(replies)
                wanted = [replies[place] for place in new]
                if _size(wanted) > _INLINE_BYTES:
                    self._decode_later(replies, user_ids, done)
                    return
                contents = self._filled(found, new, replies, self._decode(wanted, self._length) if new else ())
            except Exception as error:
                contents = self._unavailable(user_ids, error)
            done(contents)

        return self._reads.begin(self._reading(user_ids, self._length), have)

    def _decode_later(
        self, replies: list[Any], user_ids: Sequence[str], done: Callable[[list[StoredBehaviours]], None]
    ) -> None:
        async def decode() -> None:
            try:
                contents = await self._contents(replies)
            except Exception as error:
                contents = self._unavailable(user_ids, error)
            done(contents)

        task = asyncio.get_running_loop().create_task(decode())
        self._decoding.add(task)
        task.add_done_callback(self._decoding.discard)

    async def _contents(self, replies: list[Any]) -> list[StoredBehaviours]:
        found, new = self._known_of(replies)
        wanted = [replies[place] for place in new]
        return self._filled(found, new, replies, await self._decoded(wanted, self._length) if new else ())

    def _known_of(self, replies: list[Any]) -> tuple[list[StoredBehaviours | None], list[int]]:
        """Return the contents that are known, and the places of the others."""
        found = [self._known.find(reply) for reply in replies]
        return found, [place for place, stored in enumerate(found) if stored is None]

    def _filled(
        self,
        found: list[StoredBehaviours | None],
        new: list[int],
        replies: list[Any],
        decoded: Sequence[StoredBehaviours],
    ) -> list[StoredBehaviours]:
        for place, stored in zip(new, decoded, strict=True):
            found[place] = self._kept(replies[place], stored)
        return cast(list[StoredBehaviours], found)

    async def read_whole(self, user_ids: Sequence[str]) -> list[StoredBehaviours]:
        """Return all stored behaviours of each user, in the order asked; never raises."""
        try:
            replies = await self._fetch(user_ids, self._whole)
            self._count_errors(replies)
            return await self._decoded(replies, self._whole)
        except Exception as error:
            return self._unavailable(user_ids, error)

    def _unavailable(self, user_ids: Sequence[str], error: Exception) -> list[StoredBehaviours]:
        """Return nothing stored: after any error of the store the ranking continues without it."""
        self._observer.store_error(kind_of(error))
        return [StoredBehaviours(_EMPTY, status="unavailable")] * len(user_ids)

    async def _decoded(self, replies: Sequence[object], length: int) -> list[StoredBehaviours]:
        if _size(replies) > _INLINE_BYTES:
            return await asyncio.to_thread(self._decode, replies, length)
        return self._decode(replies, length)

    def _kept(self, reply: object, stored: StoredBehaviours) -> StoredBehaviours:
        return self._known.keep(reply, stored) if isinstance(reply, bytes) else stored

    async def append(self, behaviours: Mapping[str, Records]) -> dict[str, AppendResult]:
        """Append to each user's behaviours, dropping exact repeats; atomic per user.

        Raises:
            StoreUnavailable: nothing was stored for any user, as far as is known.
        """
        if not behaviours:
            return {}
        replies = await self._store(behaviours)
        self._count_errors(replies)
        results = [self._append_result(reply) for reply in replies]
        if all(result.error == "unavailable" for result in results):
            raise StoreUnavailable
        wants_order = [user_id for user_id, reply in zip(behaviours, replies, strict=True) if _wants_order(reply)]
        if wants_order:
            await self._trimmer.trim([self._key(user_id) for user_id in wants_order])
        return dict(zip(behaviours, results, strict=True))

    async def some_users(self, prefix: str, limit: int) -> list[str]:
        """Return some users with behaviours whose ids begin with a prefix: for people, never for a ranking.

        It scans a few thousand keys; in a Cluster those of one server.

        Raises:
            StoreUnavailable: the store does not answer, or the user's ACL forbids SCAN.
        """
        pattern = _GLOB.sub(rb"\\\1", self._prefix + prefix.encode("utf-8", "surrogatepass")) + b"*}"
        found: dict[str, None] = {}
        cursor: bytes | int = 0
        for _ in range(_SCANS):
            [reply] = await self._writes.run([Command(b"", ("SCAN", cursor, "MATCH", pattern, "COUNT", 1_000))])
            if isinstance(reply, Exception):
                self._count_errors([reply])
                raise StoreUnavailable from reply
            cursor, keys = reply
            found |= dict.fromkeys(key[len(self._prefix) : -1].decode(errors="replace") for key in keys)
            if len(found) >= limit or int(cursor) == 0:
                break
        return sorted(found)[:limit]

    async def ping(self) -> bool:
        """Return whether Redis answers a read."""
        [reply] = await self._fetch([""], 1, self._writes)
        self._count_errors([reply])
        return not isinstance(reply, Exception)

    async def close(self) -> None:
        """Give calls in progress a moment to finish, then close all connections."""
        for client in (self._reads, self._writes):
            try:
                await client.aclose()
            except (redis_errors.RedisError, OSError) as error:
                _log.warning("store_close_failed", error=type(error).__name__)

    async def _fetch(self, user_ids: Sequence[str], length: int, client: Client | None = None) -> list[Any]:
        return await (client or self._reads).run(self._reading(user_ids, length))

    def _reading(self, user_ids: Sequence[str], length: int) -> list[Command]:
        first = -RECORD_BYTES * (length + 1)  # one record more than asked shows whether there are older ones
        keys = [self._key(user_id) for user_id in user_ids]
        return [Command(key, ("GETRANGE", key, first, -1)) for key in keys]

    async def _store(self, behaviours: Mapping[str, Records]) -> list[Any]:
        calls = list(zip(map(self._key, behaviours), in_order(behaviours.values()), strict=True))
        replies = await self._run_script("EVALSHA", _SCRIPT_SHA, calls)
        missing = [place for place, reply in enumerate(replies) if isinstance(reply, redis_errors.NoScriptError)]
        if missing:  # a new or failed-over server, or SCRIPT FLUSH: EVAL runs the script and caches it
            again = await self._run_script("EVAL", APPEND_SCRIPT, [calls[place] for place in missing])
            for place, reply in zip(missing, again, strict=True):
                replies[place] = reply
        return replies

    def _key(self, user_id: str) -> bytes:
        # A lone surrogate cannot arrive over HTTP; if one did, it must map to an empty key and not raise.
        return self._prefix + user_id.encode("utf-8", "surrogatepass") + b"}"

    async def _run_script(self, command: str, script: str, calls: Sequence[tuple[bytes, bytes]]) -> list[Any]:
        commands = [Command(key, (command, script, 1, key, records, *self._append_arguments)) for key, records in calls]
        return await self._writes.run(commands)

    def _decode(self, replies: Sequence[object], length: int) -> list[StoredBehaviours]:
        unpacked = unpack([reply if isinstance(reply, bytes) else None for reply in replies])
        results = []
        stop = 0
        for reply, count, corrupt in zip(replies, unpacked.counts, unpacked.corrupt, strict=True):
            start, stop = stop, stop + count
            records = unpacked.records[max(start, stop - length) : stop]
            status: Status = _failed(reply) if isinstance(reply, Exception) else "ok"
            results.append(StoredBehaviours(records, corrupt, status, count > length))
        return results

    def _append_result(self, reply: Any) -> AppendResult:
        if isinstance(reply, Exception):
            return AppendResult(error=_failed(reply))
        return AppendResult(stored=int(reply[0]), repeated=int(reply[1]))

    def _count_errors(self, replies: Sequence[object]) -> None:
        """Count each error once for all its commands; a server that is skipped had no error."""
        errors = {id(reply): reply for reply in replies if isinstance(reply, Exception)}
        for error in errors.values():
            if not isinstance(error, LeftAlone):
                self._observer.store_error(kind_of(error))


def _size(replies: Sequence[object]) -> int:
    return sum(len(reply) for reply in replies if isinstance(reply, bytes))


def _failed(error: Exception) -> Literal["unavailable", "wrong_type"]:
    return "wrong_type" if kind_of(error) == "wrong_type" else "unavailable"


def _wants_order(reply: object) -> bool:
    return isinstance(reply, list) and bool(reply[2])
