"""Stored features of items: written by callers, read once, and kept in the process.

One Redis string per item under `<prefix>item:{<key>}`: MessagePack of an object, features by name. The key is that of
behaviours (contract/behaviours/records.py), as 16 hexadecimal digits, so that an item is found from a behaviour too.

A ranking waits for items that this process has never read, if its deadline allows. Later it takes what is in memory;
old entries are read again in the background.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from contract.behaviours.records import item_keys
from service.metrics import Metrics
from service.redis.client import Client, Command
from service.redis.errors import LeftAlone, kind_of
from service.store.behaviours import StoreUnavailable

Features = Mapping[str, object]

MAX_BYTES: Final = 16_384  # of one item, packed
MAX_KEPT: Final = 50_000
"""Items in memory, those without features too: about 50 MB with twenty features each."""
FRESH_SECONDS: Final = 60.0
"""After this time an item is read again: other processes may have stored its features."""
_AT_ONCE: Final = 500  # items of one round trip
_MAX_WAITING: Final = 10_000  # items to be read; more are read when they are asked for again

_NEVER_READ: Final = (-FRESH_SECONDS, None)

_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
_encode = msgspec.msgpack.Encoder().encode

_log = structlog.get_logger(__name__)


class ItemStore:
    """Features of items in Redis and in memory.

    Args:
        reads: client of reads.
        writes: client of writes.
        ttl_seconds: how long features are kept; 0 means forever.
        observer: counts.
        prefix: the prefix of every key (RANKER_REDIS__PREFIX).
        clock: seconds.
    """

    def __init__(
        self,
        reads: Client,
        writes: Client,
        *,
        ttl_seconds: int,
        observer: Metrics,
        prefix: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reads, self._writes, self._ttl = reads, writes, ttl_seconds
        self._observer, self._clock = observer, clock
        self._prefix = prefix.encode() + b"item:{"
        self._kept: dict[int, tuple[float, Features | None]] = {}  # oldest first; with the time of reading
        self._keys: dict[str, int] = {}
        self._waiting: dict[int, None] = {}
        self._task: asyncio.Task[None] | None = None

    def find(self, item_ids: Sequence[str]) -> dict[str, Features]:
        """Return the features that are in memory, by item id; see `by_key`."""
        keys = self.keys_of(item_ids)
        found = self.by_key(keys)
        return {one: found[key] for one, key in zip(item_ids, keys, strict=True) if key in found}

    def keys_of(self, item_ids: Sequence[str]) -> list[int]:
        """Return the keys of items; the newest are kept, because a key takes 1 us to compute."""
        missing = [one for one in item_ids if one not in self._keys]
        if missing:
            if len(self._keys) + len(missing) > MAX_KEPT:
                self._keys.clear()
                missing = list(item_ids)
            self._keys.update(zip(missing, item_keys(missing).tolist(), strict=True))
        return [self._keys[one] for one in item_ids]

    def by_key(self, keys: Iterable[int]) -> dict[int, Features]:
        """Return the features that are in memory, by item key; the others, and old ones, are read for the next time."""
        found: dict[int, Features] = {}
        now = self._clock()
        for key in keys:
            read_at, features = self._kept.get(key, _NEVER_READ)
            if features is not None:
                found[key] = features
            if now - read_at >= FRESH_SECONDS and len(self._waiting) < _MAX_WAITING:
                self._waiting[key] = None
        if self._waiting and self._task is None:
            self._task = asyncio.create_task(self._read_all())
        return found

    def missing(self, keys: Iterable[int]) -> list[int]:
        """Return the items that this process has not read, at most as many as one round trip reads."""
        return [key for key in keys if key not in self._kept][:_AT_ONCE]

    async def read(self, keys: Iterable[int]) -> None:
        """Read items in one round trip, at most 500; never raises. `by_key` has what was read."""
        wanted = self.missing(dict.fromkeys(keys))
        if wanted:
            await self._read(wanted)

    async def store(self, items: Mapping[str, Features]) -> None:
        """Store features of items in place of their earlier ones.

        Raises:
            StoreUnavailable: not all were stored; storing them again is safe.
        """
        expiry = ("EX", self._ttl) if self._ttl else ()
        keys: list[int] = item_keys(items).tolist()
        values = [_encode(features) for features in items.values()]
        commands = [
            Command(name, ("SET", name, value, *expiry)) for name, value in zip(self._names(keys), values, strict=True)
        ]
        replies = await self._writes.run(commands)
        self._count_errors(replies)
        for key, features, reply in zip(keys, items.values(), replies, strict=True):
            if not isinstance(reply, Exception):
                self._keep(key, features)
        if any(isinstance(reply, Exception) for reply in replies):
            raise StoreUnavailable

    async def close(self) -> None:
        """Stop reading, and close the connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for client in (self._reads, self._writes):
            await client.aclose()

    async def _read_all(self) -> None:
        try:
            while self._waiting:
                wanted = list(self._waiting)[:_AT_ONCE]
                await self._read(wanted)
                for key in wanted:
                    self._waiting.pop(key, None)
        except Exception as error:  # the next ranking starts a new task
            self._waiting.clear()
            _log.warning("items_not_read", error=type(error).__name__)
        finally:
            self._task = None

    async def _read(self, keys: Sequence[int]) -> None:
        commands = [Command(name, ("GETRANGE", name, 0, MAX_BYTES)) for name in self._names(keys)]
        try:
            replies = await self._reads.run(commands)
        except Exception as error:
            replies = [error] * len(keys)
        self._count_errors(replies)
        for key, reply in zip(keys, replies, strict=True):
            known = self._kept.get(key, _NEVER_READ)[1]
            self._keep(key, known if isinstance(reply, Exception) else _unpacked(reply))

    def _keep(self, key: int, features: Features | None) -> None:
        self._kept.pop(key, None)
        while len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = self._clock(), features

    def _names(self, keys: Iterable[int]) -> list[bytes]:
        return [self._prefix + b"%016x}" % key for key in keys]

    def _count_errors(self, replies: Sequence[object]) -> None:
        for error in {id(reply): reply for reply in replies if isinstance(reply, Exception)}.values():
            if not isinstance(error, LeftAlone):
                self._observer.store_error(kind_of(error))


def packed_size(features: Features) -> int:
    """Return how many bytes the features take in Redis."""
    return len(_encode(features))


def _unpacked(value: object) -> Features | None:
    """Return the features of a stored value; None for none, and for bytes that another program wrote."""
    if not isinstance(value, bytes) or not value:
        return None
    try:
        return _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
